//! Upstream's envelope: `k8s\0` and a `runtime.Unknown` that names the kind.

use super::wire::{Reader, put_bytes, put_varint, varint_len};
use super::{Error, Result, type_of};
use crate::TypeRef;

/// The four bytes before every enveloped object.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// An opened envelope.
#[derive(Debug, Clone, Copy, Default)]
pub struct Envelope<'a> {
    /// `apiVersion` of the object.
    pub api_version: &'a str,
    /// `kind` of the object.
    pub kind: &'a str,
    /// The object's own message.
    pub raw: &'a [u8],
    /// `gzip` or empty; upstream writes none.
    pub content_encoding: &'a str,
    /// Empty for protobuf.
    pub content_type: &'a str,
}

impl Envelope<'_> {
    /// The struct of the kind.
    ///
    /// # Errors
    /// The table has no such kind.
    pub fn type_ref(&self) -> Result<TypeRef> {
        type_of(self.api_version, self.kind)
    }
}

/// Opens an envelope; nothing is copied.
///
/// # Errors
/// The prefix is missing or the `runtime.Unknown` is malformed.
pub fn open_envelope(bytes: &[u8]) -> Result<Envelope<'_>> {
    let body = bytes.strip_prefix(&MAGIC).ok_or(Error::NoEnvelope)?;
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(body);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => {
                let mut meta = Reader::new(field.bytes);
                while let Some(field) = meta.next()? {
                    match field.number {
                        1 => envelope.api_version = text(field.bytes)?,
                        2 => envelope.kind = text(field.bytes)?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = field.bytes,
            3 => envelope.content_encoding = text(field.bytes)?,
            4 => envelope.content_type = text(field.bytes)?,
            _ => {}
        }
    }
    Ok(envelope)
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::Wire("invalid UTF-8 in type meta"))
}

/// Wraps a message: the bytes that upstream writes, its two empty strings at the end included.
pub fn write_envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + api_version.len() + kind.len() + 24);
    begin_envelope(&mut out, api_version, kind, raw.len());
    out.extend_from_slice(raw);
    end_envelope(&mut out);
    out
}

/// Writes everything before the message, whose length must be known.
pub(crate) fn begin_envelope(out: &mut Vec<u8>, api_version: &str, kind: &str, raw_len: usize) {
    out.extend_from_slice(&MAGIC);
    let meta =
        2 + varint_len(api_version.len() as u64) + varint_len(kind.len() as u64) + api_version.len() + kind.len();
    out.push(0x0a);
    put_varint(out, meta as u64);
    put_bytes(out, 1, api_version.as_bytes());
    put_bytes(out, 2, kind.as_bytes());
    out.push(0x12);
    put_varint(out, raw_len as u64);
}

/// What follows the message: two empty strings.
pub(super) const END: [u8; 4] = [0x1a, 0, 0x22, 0];

pub(crate) fn end_envelope(out: &mut Vec<u8>) {
    out.extend_from_slice(&END);
}
