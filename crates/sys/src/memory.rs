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
