//! Lists and watch events from stored bytes, with no tree in between.

use serde_json::{Map, Value};

use super::envelope::{begin_envelope, end_envelope, open_envelope};
use super::sink::write_string;
use super::splice::Cut;
use super::wire::{Reader, put_bytes, put_varint, varint_len};
use super::{Error, Result, encode_message, message_to_json, raw_json};
use crate::TypeRef;

/// `metav1.ListMeta`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListMeta {
    /// The revision of the list; 0 prints none.
    pub resource_version: u64,
    /// The token for the next page, empty at the end.
    pub continue_token: String,
    /// How many items follow, when known.
    pub remaining_item_count: Option<i64>,
}

impl ListMeta {
    /// As a tree in normal form.
    pub fn to_map(&self) -> Map<String, Value> {
        let mut map = Map::new();
        if self.resource_version != 0 {
            map.insert("resourceVersion".into(), self.resource_version.to_string().into());
        }
        if !self.continue_token.is_empty() {
            map.insert("continue".into(), self.continue_token.clone().into());
        }
        if let Some(count) = self.remaining_item_count {
            map.insert("remainingItemCount".into(), count.into());
        }
        map
    }
}

/// Writes a list as JSON text, item by item.
#[derive(Debug, Default)]
pub struct JsonListWriter {
    items: usize,
}

impl JsonListWriter {
    /// Writes everything before the first item.
    pub fn begin(out: &mut Vec<u8>, api_version: &str, kind: &str, meta: &ListMeta) -> Self {
        out.extend_from_slice(b"{\"kind\":");
        write_string(out, kind);
        out.extend_from_slice(b",\"apiVersion\":");
        write_string(out, api_version);
        out.extend_from_slice(b",\"metadata\":");
        // A map of strings and numbers cannot fail to serialise.
        out.extend_from_slice(&serde_json::to_vec(&meta.to_map()).unwrap_or_default());
        out.extend_from_slice(b",\"items\":[");
        Self { items: 0 }
    }

    fn separate(&mut self, out: &mut Vec<u8>) {
        if self.items > 0 {
            out.push(b',');
        }
        self.items += 1;
    }

    /// Writes a stored protobuf object; as upstream's, it has no `kind` of its own in a list.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn protobuf(&mut self, out: &mut Vec<u8>, stored: &[u8], resource_version: u64) -> Result<()> {
        let envelope = open_envelope(stored)?;
        let t = envelope.type_ref()?;
        self.separate(out);
        message_to_json(t, envelope.raw, resource_version, out)
    }

    /// Writes an item that is JSON text already.
    pub fn json(&mut self, out: &mut Vec<u8>, item: &[u8]) {
        self.separate(out);
        out.extend_from_slice(item);
    }

    /// Closes the list; as Go's encoder it ends in a newline.
    pub fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"]}\n");
    }
}

/// Writes a list as enveloped protobuf, item by item, once the items' lengths are known.
#[derive(Debug)]
pub struct ProtobufListWriter {
    _private: (),
}

impl ProtobufListWriter {
    /// How many bytes an item takes in the list.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn item_len(stored: &[u8], resource_version: u64) -> Result<usize> {
        let len = Cut::new(open_envelope(stored)?.raw, resource_version)?.len();
        Ok(1 + varint_len(len as u64) + len)
    }

    /// Writes everything before the first item; `items_len` is the sum of [`Self::item_len`].
    ///
    /// # Errors
    /// None in practice: a list's metadata always encodes.
    pub fn begin(out: &mut Vec<u8>, api_version: &str, kind: &str, meta: &ListMeta, items_len: usize) -> Result<Self> {
        let meta = encode_message(TypeRef::LIST_META, &meta.to_map())?;
        let meta_len = 1 + varint_len(meta.len() as u64) + meta.len();
        begin_envelope(out, api_version, kind, meta_len + items_len);
        put_bytes(out, 1, &meta);
        Ok(Self { _private: () })
    }

    /// Writes a stored object.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn item(&mut self, out: &mut Vec<u8>, stored: &[u8], resource_version: u64) -> Result<()> {
        let cut = Cut::new(open_envelope(stored)?.raw, resource_version)?;
        out.push(0x12);
        put_varint(out, cut.len() as u64);
        cut.write(out);
        Ok(())
    }

    /// Closes the list.
    pub fn end(self, out: &mut Vec<u8>) {
        end_envelope(out);
    }
}

/// A whole list as enveloped protobuf; the items are stored bytes with their resource versions.
///
/// # Errors
/// Malformed bytes.
pub fn protobuf_list(api_version: &str, kind: &str, meta: &ListMeta, items: &[(&[u8], u64)]) -> Result<Vec<u8>> {
    let mut total = 0;
    for (stored, version) in items {
        total += ProtobufListWriter::item_len(stored, *version)?;
    }
    let mut out = Vec::with_capacity(total + 128);
    let mut writer = ProtobufListWriter::begin(&mut out, api_version, kind, meta, total)?;
    for (stored, version) in items {
        writer.item(&mut out, stored, *version)?;
    }
    writer.end(&mut out);
    Ok(out)
}

/// An enveloped list, cut into its items.
#[derive(Debug, Clone, Default)]
pub struct SplitList<'a> {
    /// `apiVersion` of the list, and so of its items.
    pub api_version: &'a str,
    /// `kind` of the list.
    pub kind: &'a str,
    /// The list's metadata.
    pub meta: ListMeta,
    /// The items' bare messages.
    pub items: Vec<&'a [u8]>,
}

/// Cuts an enveloped list into its items, which are not decoded.
///
/// # Errors
/// No envelope, or malformed bytes.
pub fn split_protobuf_list(bytes: &[u8]) -> Result<SplitList<'_>> {
    let envelope = open_envelope(bytes)?;
    let mut list = SplitList { api_version: envelope.api_version, kind: envelope.kind, ..SplitList::default() };
    let mut reader = Reader::new(envelope.raw);
    while let Some(raw) = reader.next()? {
        match raw.number {
            1 => list.meta = read_meta(raw.bytes)?,
            2 => list.items.push(raw.bytes),
            _ => {}
        }
    }
    Ok(list)
}

fn read_meta(bytes: &[u8]) -> Result<ListMeta> {
    let mut meta = ListMeta::default();
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        match raw.number {
            // A version that is no number is none of ours; 0 has the list read again.
            2 => meta.resource_version = std::str::from_utf8(raw.bytes).ok().and_then(|t| t.parse().ok()).unwrap_or(0),
            3 => meta.continue_token = String::from_utf8_lossy(raw.bytes).into_owned(),
            4 => meta.remaining_item_count = Some(raw.int as i64),
            _ => {}
        }
    }
    Ok(meta)
}

/// The type and the enveloped object of a protobuf watch event, without its four bytes of length.
///
/// # Errors
/// Malformed bytes.
pub fn open_protobuf_watch_event(event: &[u8]) -> Result<(&str, &[u8])> {
    let (mut kind, mut object): (&str, &[u8]) = ("", &[]);
    let mut reader = Reader::new(event);
    while let Some(raw) = reader.next()? {
        match raw.number {
            1 => kind = std::str::from_utf8(raw.bytes).map_err(|_| Error::Wire("invalid UTF-8 in event type"))?,
            2 => object = raw_json(raw.bytes)?,
            _ => {}
        }
    }
    Ok((kind, object))
}

/// A watch event as JSON text: one line.
pub fn json_watch_event(event_type: &str, object_json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object_json.len() + 32);
    out.extend_from_slice(b"{\"type\":");
    write_string(&mut out, event_type);
    out.extend_from_slice(b",\"object\":");
    out.extend_from_slice(object_json.trim_ascii_end());
    out.extend_from_slice(b"}\n");
    out
}

/// A watch event as a protobuf frame: four bytes of length, then a bare `WatchEvent` around the enveloped object.
pub fn protobuf_watch_event(event_type: &str, enveloped: &[u8]) -> Vec<u8> {
    let raw_len = 1 + varint_len(enveloped.len() as u64) + enveloped.len();
    let mut out = Vec::with_capacity(raw_len + event_type.len() + 24);
    out.extend_from_slice(&[0; 4]);
    put_bytes(&mut out, 1, event_type.as_bytes());
    out.push(0x12);
    put_varint(&mut out, raw_len as u64);
    put_bytes(&mut out, 1, enveloped);
    let len = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}
