//! Ids: 64 hexadecimal digits, as container runtimes have them.

use node_api::{Error, Result};

/// A new random id.
pub(super) fn new_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::internal("read random bytes", std::io::Error::from(e)))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
