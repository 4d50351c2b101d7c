//! Installing seccomp filters that were compiled elsewhere.

use std::io;

use crate::{Context, Result};

/// One BPF instruction is eight bytes.
pub const INSTRUCTION_BYTES: usize = 8;

/// Installs one filter, given as the bytes of its `sock_filter`s. Filters add up, the last installed is asked first.
///
/// Needs `no_new_privs` or CAP_SYS_ADMIN.
///
/// # Errors
/// An empty or torn program, and the kernel's errors.
pub fn install(program: &[u8]) -> Result<()> {
    if program.is_empty()
        || !program.len().is_multiple_of(INSTRUCTION_BYTES)
        || program.len() / INSTRUCTION_BYTES > 4096
    {
        return Err(crate::Error::invalid("install seccomp filter", "", "not a filter program"));
    }
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION_BYTES)
        .map(|b| libc::sock_filter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect();
    let fprog =
        libc::sock_fprog { len: instructions.len() as libc::c_ushort, filter: instructions.as_ptr().cast_mut() };
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    // SAFETY: `fprog` points to `len` instructions, all alive during the call, which only reads them.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0u32, &raw const fprog) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()).at("install seccomp filter", "") }
}

/// Whether the kernel has seccomp filters.
#[must_use]
pub fn supported() -> bool {
    std::path::Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}
