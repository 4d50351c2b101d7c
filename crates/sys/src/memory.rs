//! What the process keeps of memory that it no longer needs.

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
