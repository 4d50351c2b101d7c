//! Hash maps with a fixed hasher, so that iteration order is the same in every run.
//!
//! The hasher is FNV-1a with a finishing mix: keys are names from authenticated clients, and the maps
//! are bounded by the objects in the store, so resistance against chosen collisions is not needed here.
//! Maps keyed by unauthenticated input must not use it.

use std::hash::{BuildHasherDefault, Hasher};

/// A map with a fixed iteration order for a given history.
pub type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Fnv>>;
/// A set with a fixed iteration order for a given history.
pub type HashSet<K> = std::collections::HashSet<K, BuildHasherDefault<Fnv>>;

/// FNV-1a, 64 bits.
#[derive(Clone, Copy)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes the top bits: fold them so that short keys spread.
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

/// 32-bit FNV-1a of some bytes, as upstream hashes pod templates and shards.
pub fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
