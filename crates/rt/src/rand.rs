//! Randomness: from the operating system's hasher keys at start, or from a seed in a simulation.
//!
//! Not for secrets: keys and tokens come from `pki`.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish() | 1);
}

/// Seeds this thread's generator.
pub fn seed(seed: u64) {
    STATE.with(|state| state.set(seed | 1));
}

/// A random number (splitmix64).
pub fn u64() -> u64 {
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mut z = next;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A number below `bound`; 0 when the bound is 0.
pub fn below(bound: u64) -> u64 {
    if bound == 0 { 0 } else { u64() % bound }
}

/// A number from 0 up to, but not including, 1.
pub fn fraction() -> f64 {
    (u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Letters and digits that spell no words: the alphabet of generated names upstream.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A random suffix for names, upstream's `utilrand.String`.
pub fn name_suffix(length: usize) -> String {
    (0..length).map(|_| NAME_ALPHABET[below(NAME_ALPHABET.len() as u64) as usize] as char).collect()
}

/// A random uid in the form of a version 4 UUID.
pub fn uid() -> String {
    let (a, b) = (u64(), u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        (b >> 48) & 0x3fff | 0x8000,
        b & 0xffff_ffff_ffff
    )
}

/// Puts a slice in random order.
pub fn shuffle<T>(items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(i as u64 + 1) as usize);
    }
}
