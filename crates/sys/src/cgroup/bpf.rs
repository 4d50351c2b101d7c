//! Device rules on v2: a small BPF program, attached to the group.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::DeviceAccess;
use crate::devices::DeviceKind;
use crate::{Context, Result};

/// One instruction: code, registers (low half: destination), jump offset, constant.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    constant: i32,
}

const LOAD_WORD: u8 = 0x61; // dst = *(u32 *)(src + offset)
const AND: u8 = 0x54; // w(dst) &= constant
const SHIFT_RIGHT: u8 = 0x74; // w(dst) >>= constant
const JUMP_UNLESS_EQUAL: u8 = 0x55; // if dst != constant goto
const MOVE: u8 = 0xb7; // dst = constant
const COPY: u8 = 0xbf; // dst = src
const EXIT: u8 = 0x95;

const fn ins(code: u8, dst: u8, src: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { code, registers: dst | (src << 4), offset, constant }
}

/// Allows exactly these accesses in the group at `dir`.
///
/// # Errors
/// The kernel's; it needs CONFIG_CGROUP_BPF and CAP_BPF or CAP_SYS_ADMIN.
pub(super) fn allow_devices(dir: &Path, devices: &[DeviceAccess]) -> Result<()> {
    let program = load(&compile(devices)).at("load device rules", dir)?;
    let group = crate::fs::open_path(dir)?;
    // `struct bpf_attr` for BPF_PROG_ATTACH: target, program, type, flags.
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let group = rustix::fs::openat(
        &group,
        ".",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .at("open", dir)?;
    let attributes: [u32; 4] =
        [group.as_raw_fd() as u32, program.as_raw_fd() as u32, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI];
    bpf(8, attributes.as_ptr().cast(), size_of_val(&attributes)).map(drop).at("attach device rules to", dir)
}

/// r2 = type, r3 = access, r4 = major, r5 = minor; each rule falls through to the next where it does not match.
fn compile(devices: &[DeviceAccess]) -> Vec<Instruction> {
    let mut program = vec![
        ins(LOAD_WORD, 2, 1, 0, 0),
        ins(AND, 2, 0, 0, 0xffff),
        ins(LOAD_WORD, 3, 1, 0, 0),
        ins(SHIFT_RIGHT, 3, 0, 0, 16),
        ins(LOAD_WORD, 4, 1, 4, 0),
        ins(LOAD_WORD, 5, 1, 8, 0),
    ];
    for device in devices {
        let mut rule = Vec::new();
        let kind = if device.kind == DeviceKind::Char { 2 } else { 1 };
        rule.push(ins(JUMP_UNLESS_EQUAL, 2, 0, 0, kind));
        let bit = |letter, bit| if device.access.contains(letter) { bit } else { 0 };
        let access = bit('m', 1) | bit('r', 2) | bit('w', 4);
        if access != 7 {
            rule.push(ins(COPY, 0, 3, 0, 0));
            rule.push(ins(AND, 0, 0, 0, !access & 7));
            rule.push(ins(JUMP_UNLESS_EQUAL, 0, 0, 0, 0));
        }
        for (register, number) in [(4, device.major), (5, device.minor)] {
            if let Some(number) = number {
                rule.push(ins(JUMP_UNLESS_EQUAL, register, 0, 0, number as i32));
            }
        }
        rule.extend([ins(MOVE, 0, 0, 0, 1), ins(EXIT, 0, 0, 0, 0)]);
        let length = rule.len();
        for (index, instruction) in rule.iter_mut().enumerate() {
            if instruction.code == JUMP_UNLESS_EQUAL {
                instruction.offset = (length - index - 1) as i16;
            }
        }
        program.extend(rule);
    }
    program.extend([ins(MOVE, 0, 0, 0, 0), ins(EXIT, 0, 0, 0, 0)]);
    program
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    let attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let fd = bpf(5, std::ptr::from_ref(&attributes).cast(), size_of::<Load>())?;
    // SAFETY: loading a program returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: i32, attributes: *const u8, size: usize) -> io::Result<i32> {
    // SAFETY: `attributes` points to `size` bytes laid out as the kernel wants them for `command`, and everything
    // they point to is alive during the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}
