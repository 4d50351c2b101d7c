//! Puts `resourceVersion` into stored bytes on their way out, without decoding them.

use super::Result;
use super::envelope::{begin_envelope, end_envelope, open_envelope};
use super::from_proto::version_text;
use super::wire::{Reader, put_bytes, put_varint, varint_len};

/// `metadata` in every kind.
const METADATA: u32 = 1;
/// `resourceVersion` in `ObjectMeta`.
const RESOURCE_VERSION: u32 = 6;

/// A message cut around its `metadata`, and that around its `resourceVersion`.
pub(super) struct Cut<'a> {
    before: &'a [u8],
    meta_before: &'a [u8],
    meta_after: &'a [u8],
    after: &'a [u8],
    version: String,
}

impl<'a> Cut<'a> {
    /// Cuts a bare message of a kind with `ObjectMeta`.
    pub fn new(raw: &'a [u8], resource_version: u64) -> Result<Self> {
        let (start, end, metadata) = find(raw, METADATA)?;
        let (meta_start, meta_end, _) = find(metadata, RESOURCE_VERSION)?;
        Ok(Self {
            before: &raw[..start],
            meta_before: &metadata[..meta_start],
            meta_after: &metadata[meta_end..],
            after: &raw[end..],
            version: version_text(resource_version),
        })
    }

    fn meta_len(&self) -> usize {
        let version = 1 + varint_len(self.version.len() as u64) + self.version.len();
        self.meta_before.len() + version + self.meta_after.len()
    }

    /// How long the message will be.
    pub fn len(&self) -> usize {
        let meta = self.meta_len();
        self.before.len() + 1 + varint_len(meta as u64) + meta + self.after.len()
    }

    /// Writes the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before);
        out.push(0x0a);
        put_varint(out, self.meta_len() as u64);
        out.extend_from_slice(self.meta_before);
        put_bytes(out, RESOURCE_VERSION, self.version.as_bytes());
        out.extend_from_slice(self.meta_after);
        out.extend_from_slice(self.after);
    }
}

/// Stored bytes as `meta.k8s.io/v1, PartialObjectMetadata` in protobuf, with `resourceVersion` set.
///
/// # Errors
/// No envelope, or malformed bytes.
pub fn partial_object_metadata(bytes: &[u8], resource_version: u64) -> Result<Vec<u8>> {
    let (_, _, metadata) = find(open_envelope(bytes)?.raw, METADATA)?;
    let mut bare = Vec::with_capacity(metadata.len() + 4);
    put_bytes(&mut bare, METADATA, metadata);
    let cut = Cut::new(&bare, resource_version)?;
    let mut out = Vec::with_capacity(metadata.len() + 64);
    begin_envelope(&mut out, PARTIAL_VERSION, PARTIAL_KIND, cut.len());
    cut.write(&mut out);
    end_envelope(&mut out);
    Ok(out)
}

/// Stored bytes as `meta.k8s.io/v1, PartialObjectMetadata` in JSON, with `resourceVersion` set.
///
/// # Errors
/// No envelope, or malformed bytes.
pub fn partial_object_metadata_json(bytes: &[u8], resource_version: u64, out: &mut Vec<u8>) -> Result<()> {
    super::protobuf_to_json(&partial_object_metadata(bytes, 0)?, resource_version, out)
}

const PARTIAL_VERSION: &str = "meta.k8s.io/v1";
const PARTIAL_KIND: &str = "PartialObjectMetadata";

/// Where a field stands, or, when it is missing, where it would stand.
fn find(bytes: &[u8], number: u32) -> Result<(usize, usize, &[u8])> {
    let mut reader = Reader::new(bytes);
    loop {
        let start = reader.pos();
        match reader.next()? {
            Some(raw) if raw.number == number => return Ok((start, reader.pos(), raw.bytes)),
            Some(raw) if raw.number < number => {}
            _ => return Ok((start, start, &[])),
        }
    }
}

/// Stored bytes with `resourceVersion` set (0 clears it), envelope and all.
///
/// # Errors
/// No envelope, or malformed bytes.
pub fn set_resource_version(bytes: &[u8], resource_version: u64) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() + 24);
    write_with_resource_version(bytes, resource_version, &mut out)?;
    Ok(out)
}

/// As [`set_resource_version`], appended to `out`.
///
/// # Errors
/// No envelope, or malformed bytes.
pub fn write_with_resource_version(bytes: &[u8], resource_version: u64, out: &mut Vec<u8>) -> Result<()> {
    let envelope = open_envelope(bytes)?;
    let cut = Cut::new(envelope.raw, resource_version)?;
    begin_envelope(out, envelope.api_version, envelope.kind, cut.len());
    cut.write(out);
    end_envelope(out);
    Ok(())
}
