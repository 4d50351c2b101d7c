//! The process's allocator, and what it keeps of memory that is no longer needed.

use std::alloc::{GlobalAlloc, Layout, System};
#[cfg(target_env = "gnu")]
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};

/// The words that make this binary a server of many requests, as first or second argument.
const SERVERS: [&[u8]; 6] =
    [b"control-plane", b"kube-apiserver", b"kube-controller-manager", b"kube-scheduler", b"etcd", b"hollow-node"];

/// Whether this process is one of [`SERVERS`]; set before the first allocation and never again.
static SERVER: AtomicBool = AtomicBool::new(false);

/// The allocator of the binary: mimalloc for servers, whose threads would wait for each other's heaps in the C library's
/// allocator, and the C library's for everything else, which is small and has few threads.
#[derive(Debug)]
pub struct Allocator;

/// The side of [`Allocator`] that this process is on. A plain load: it was written before there were threads.
fn server() -> bool {
    SERVER.load(Ordering::Relaxed)
}

// SAFETY: all of a process's blocks come from one of two allocators that keep the trait's contract, and go back to the same:
// `SERVER` is decided before the first allocation.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { if server() { mimalloc::MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { if server() { mimalloc::MiMalloc.alloc_zeroed(layout) } else { System.alloc_zeroed(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block comes from the same side, see the impl.
        unsafe { if server() { mimalloc::MiMalloc.dealloc(block, layout) } else { System.dealloc(block, layout) } }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            if server() { mimalloc::MiMalloc.realloc(block, layout, size) } else { System.realloc(block, layout, size) }
        }
    }
}

/// Decides for [`Allocator`]; the C library calls it with the arguments of `main`, before `main` and any thread.
#[cfg(target_env = "gnu")]
#[used]
#[unsafe(link_section = ".init_array")]
static DECIDE: extern "C" fn(c_int, *const *const c_char) = decide;

#[cfg(target_env = "gnu")]
extern "C" fn decide(count: c_int, arguments: *const *const c_char) {
    for at in 0..usize::try_from(count).unwrap_or(0).min(2) {
        // SAFETY: glibc hands over `count` pointers to texts that live as long as the process.
        let word = unsafe { CStr::from_ptr(*arguments.add(at)) }.to_bytes();
        let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or(word);
        if SERVERS.contains(&name) {
            SERVER.store(true, Ordering::Relaxed);
            // A new arena is then used page by page, not in pieces of 2 MiB, and free pages go back soon: a third less memory
            // when idle, and no slower under load.
            // SAFETY: options are numbers in a table.
            unsafe {
                libmimalloc_sys::mi_option_set(EAGER_ARENAS, 0);
                libmimalloc_sys::mi_option_set(PURGE_DELAY, 1);
            }
        }
    }
}

/// mimalloc's `mi_option_arena_eager_commit` and `mi_option_purge_delay` (milliseconds), which its Rust bindings do not name.
#[cfg(target_env = "gnu")]
const EAGER_ARENAS: libmimalloc_sys::mi_option_t = 4;
#[cfg(target_env = "gnu")]
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Bounds the heaps that the C library's allocator makes for threads. For the start of `main`, before there are other
/// threads; does nothing under another C library.
pub fn bound_heaps(heaps: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain setting of the allocator; a value it does not like is refused by it.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, heaps);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = heaps;
}

/// Has buffers of 128 KiB and more go back to the kernel when they are freed, whatever sizes were met before: less
/// memory for more page faults, right for a process that is idle most of the time. Likewise for the start of `main`.
pub fn return_large_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: plain settings of the allocator, in its documented ranges.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
    }
}

/// Gives free pages of all heaps back to the kernel. Takes about a millisecond per 100 MB.
pub fn trim_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator locks its heaps one after the other while it looks through them.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps the program's code; what still runs is mapped again from the page cache, 64 KiB at each fault. What only a
/// start or a burst needed then counts no more to a process that is idle, and may be reclaimed.
pub fn forget_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (start, end) in maps.lines().filter_map(code_of_file) {
        // SAFETY: private mappings of a file that are executable and not writable hold nothing but the file's bytes;
        // after this the kernel reads them from there again, whichever thread comes by.
        unsafe {
            libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
        }
    }
}

/// The bounds of a mapping from its line in `maps`, where it is code of a file.
fn code_of_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (range, mode) = (fields.next()?, fields.next()?);
    let inode = fields.nth(2)?;
    if mode != "r-xp" || inode == "0" {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_env = "gnu")]
    #[test]
    fn options_have_their_numbers() {
        // SAFETY: reads numbers. Unless set, arenas are eager only where the kernel overcommits (2), and the delay is a second.
        let options = unsafe { [EAGER_ARENAS, PURGE_DELAY].map(|option| libmimalloc_sys::mi_option_get(option)) };
        assert_eq!(options, [2, 1000]);
    }

    #[test]
    fn only_code_of_files_is_forgotten() {
        let code = "01369000-03fe5000 r-xp 01168000 fe:00 10013000                           /tmp/corten";
        assert_eq!(code_of_file(code), Some((0x0136_9000, 0x03fe_5000)));
        for other in [
            "00200000-01369000 r--p 00000000 fe:00 10013000 /tmp/corten",
            "27380000-277f6000 rw-p 00000000 00:00 0 [heap]",
            "7ffc811f5000-7ffc811f7000 r-xp 00000000 00:00 0 [vdso]",
        ] {
            assert_eq!(code_of_file(other), None);
        }
        forget_code();
        trim_heaps();
        assert!(code_of_file(code).is_some(), "and goes on");
    }
}
