//! Certificate and key files: written whole or not at all, private ones for the owner only.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::cert::{Info, Pair};
use crate::{Error, Key, pem};

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { operation, path, source }
}

fn content(path: &Path, reason: impl Into<String>) -> Error {
    Error::Content { path: path.to_owned(), reason: reason.into() }
}

/// Writes a file through a temporary neighbour. `durable` waits for the disk: needed for what cannot be made again.
///
/// # Errors
/// The file system refused.
pub fn write(path: &Path, text: &str, mode: u32, durable: bool) -> Result<(), Error> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(file_error("create folder", dir))?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&temporary);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(temporary)?;
        file.write_all(text.as_bytes())?;
        if durable {
            file.sync_data()?;
        }
        fs::rename(temporary, path)
    })();
    written.map_err(file_error("write", path))
}

/// Reads a text file; `None` when it does not exist.
///
/// # Errors
/// The file system refused.
pub fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", path)(error)),
    }
}

/// Reads `<base>.crt` and `<base>.key`; `None` when either is missing.
///
/// # Errors
/// A file is unreadable, or the two do not fit each other.
pub fn load_pair(base: &Path) -> Result<Option<Pair>, Error> {
    let (cert_path, key_path) = (base.with_extension("crt"), base.with_extension("key"));
    let (Some(cert_text), Some(key_text)) = (read(&cert_path)?, read(&key_path)?) else { return Ok(None) };
    let cert = pem::certificates(&cert_text).into_iter().next().ok_or_else(|| content(&cert_path, "no certificate"))?;
    let key = Key::from_pem(&key_text).map_err(|e| content(&key_path, e.to_string()))?;
    let info = Info::parse(&cert).map_err(|e| content(&cert_path, e.to_string()))?;
    if info.spki != key.public().spki() {
        return Err(content(&cert_path, "the certificate is not for the key beside it"));
    }
    Ok(Some(Pair { cert, key }))
}

/// Writes `<base>.crt` (0644) and `<base>.key` (0600), the key first.
///
/// # Errors
/// The file system refused.
pub fn store_pair(base: &Path, pair: &Pair, durable: bool) -> Result<(), Error> {
    write(&base.with_extension("key"), &pair.key_pem(), 0o600, durable)?;
    write(&base.with_extension("crt"), &pair.cert_pem(), 0o644, durable)
}

/// The authority at `<base>`, made on first use. An expired or torn one is an error: replacing it would orphan all clients.
///
/// # Errors
/// Files are unreadable, only one of the two is there, or the authority has expired.
pub fn load_or_create_ca(base: &Path, common_name: &str) -> Result<Pair, Error> {
    let (cert_path, key_path) = (base.with_extension("crt"), base.with_extension("key"));
    if let Some(pair) = load_pair(base)? {
        let info = Info::parse(&pair.cert)?;
        if info.not_after <= rt::time::unix_seconds() {
            return Err(content(&cert_path, "the certificate authority has expired"));
        }
        return Ok(pair);
    }
    if cert_path.exists() || key_path.exists() {
        return Err(content(&cert_path, "certificate and key must both be there or both be absent"));
    }
    let pair = Pair::new_ca(common_name)?;
    store_pair(base, &pair, true)?;
    Ok(pair)
}

/// The key pair at `<base>.key` and `<base>.pub`, made on first use.
///
/// # Errors
/// Files are unreadable.
pub fn load_or_create_key(base: &Path) -> Result<Key, Error> {
    let (private, public) = (base.with_extension("key"), base.with_extension("pub"));
    let key = match read(&private)? {
        Some(text) => Key::from_pem(&text).map_err(|e| content(&private, e.to_string()))?,
        None => {
            let key = Key::generate()?;
            write(&private, &key.to_pem(), 0o600, true)?;
            key
        }
    };
    if !public.exists() {
        write(&public, &key.public().to_pem(), 0o644, false)?;
    }
    Ok(key)
}
