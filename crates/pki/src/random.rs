//! Secret random bytes, from the operating system.

use ring::rand::{SecureRandom, SystemRandom};

use crate::Error;

/// Fresh random bytes, for encryption keys and tokens.
///
/// # Errors
/// The system's random source failed.
pub fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).map_err(|_| Error::Random)?;
    Ok(out)
}

/// A random text of lower-case letters and digits, such as a bootstrap token's parts.
///
/// # Errors
/// The system's random source failed.
pub fn token(length: usize) -> Result<String, Error> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut raw = vec![0; length];
    SystemRandom::new().fill(&mut raw).map_err(|_| Error::Random)?;
    Ok(raw.into_iter().map(|b| ALPHABET[usize::from(b & 31)] as char).collect())
}

/// A version 4 UUID from secret randomness, for token ids.
///
/// # Errors
/// The system's random source failed.
pub fn uuid() -> Result<String, Error> {
    let mut raw: [u8; 16] = bytes()?;
    raw[6] = raw[6] & 0x0f | 0x40;
    raw[8] = raw[8] & 0x3f | 0x80;
    let hex: String = raw.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
