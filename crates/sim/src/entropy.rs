//! The system's entropy, from the seed.
//!
//! Executor and standard library draw hash keys and the order of some wake-ups from `getrandom`, past `rt`. In this binary alone
//! that name is ours, so that they too are a function of the seed. No cluster and no key outlives the process.

#![allow(unsafe_code, reason = "the C function's name and signature cannot be had without")]

use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

/// Seeds what `getrandom` gives.
pub fn seed(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
}

fn next() -> u64 {
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Takes the place of the C library's function of this name.
///
/// # Safety
/// `buffer` is valid for writes of `length` bytes, as `getrandom(2)` asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    for at in 0..length {
        let byte = next().to_le_bytes()[0];
        // SAFETY: the caller vouches for `length` bytes from `buffer` on.
        unsafe { buffer.add(at).write(byte) };
    }
    length.cast_signed()
}
