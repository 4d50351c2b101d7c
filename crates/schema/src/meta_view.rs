//! Metadata and single fields straight from stored bytes, without decoding the rest.

use std::borrow::Cow;

use crate::codec::wire::{self, Raw, Reader};
use crate::codec::{Envelope, Error, Result, first_int, map_entry, open_envelope, quantity, raw_json, scalar_text};
use crate::table::{Card, Elem, TypeRef};

/// `ObjectMeta` as it stands in stored bytes; strings are borrowed. Times are Unix seconds.
#[derive(Debug, Clone, Default)]
pub struct MetaView<'a> {
    /// `apiVersion` of the object.
    pub api_version: &'a str,
    /// `kind` of the object.
    pub kind: &'a str,
    /// `name`.
    pub name: &'a str,
    /// `generateName`.
    pub generate_name: &'a str,
    /// `namespace`, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// `uid`.
    pub uid: &'a str,
    /// `resourceVersion`; empty in stored bytes.
    pub resource_version: &'a str,
    /// `generation`.
    pub generation: i64,
    /// `creationTimestamp`.
    pub creation: Option<i64>,
    /// `deletionTimestamp`.
    pub deletion: Option<i64>,
    /// `deletionGracePeriodSeconds`.
    pub deletion_grace_period_seconds: Option<i64>,
    /// `labels`, in stored (sorted) order.
    pub labels: Vec<(&'a str, &'a str)>,
    /// `annotations`, in stored (sorted) order.
    pub annotations: Vec<(&'a str, &'a str)>,
    /// `ownerReferences`.
    pub owner_references: Vec<OwnerView<'a>>,
    /// `finalizers`.
    pub finalizers: Vec<&'a str>,
}

/// One of `ownerReferences`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerView<'a> {
    /// The owner's `apiVersion`.
    pub api_version: &'a str,
    /// The owner's kind.
    pub kind: &'a str,
    /// The owner's name.
    pub name: &'a str,
    /// The owner's uid.
    pub uid: &'a str,
    /// Whether the owner manages the object.
    pub controller: bool,
    /// Whether foreground deletion of the owner waits.
    pub block_owner_deletion: bool,
}

impl<'a> MetaView<'a> {
    /// One label.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// One annotation.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.annotations.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }
}

/// Reads the metadata of an enveloped object.
///
/// # Errors
/// No envelope, or malformed bytes.
pub fn meta_view(bytes: &[u8]) -> Result<MetaView<'_>> {
    let envelope = open_envelope(bytes)?;
    let mut view = MetaView { api_version: envelope.api_version, kind: envelope.kind, ..MetaView::default() };
    let mut reader = Reader::new(envelope.raw);
    while let Some(raw) = reader.next()? {
        // `metadata` is field 1 of every kind.
        if raw.number == 1 {
            read_meta(raw.bytes, &mut view)?;
        }
    }
    Ok(view)
}

fn read_meta<'a>(bytes: &'a [u8], view: &mut MetaView<'a>) -> Result<()> {
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        match raw.number {
            1 => view.name = text(raw)?,
            2 => view.generate_name = text(raw)?,
            3 => view.namespace = text(raw)?,
            5 => view.uid = text(raw)?,
            6 => view.resource_version = text(raw)?,
            7 => view.generation = raw.int as i64,
            8 => view.creation = seconds(raw)?,
            9 => view.deletion = seconds(raw)?,
            10 => view.deletion_grace_period_seconds = Some(raw.int as i64),
            11 => view.labels.push(pair(raw)?),
            12 => view.annotations.push(pair(raw)?),
            13 => view.owner_references.push(owner(raw.bytes)?),
            14 => view.finalizers.push(text(raw)?),
            _ => {}
        }
    }
    Ok(())
}

fn owner(bytes: &[u8]) -> Result<OwnerView<'_>> {
    let mut view = OwnerView::default();
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        match raw.number {
            1 => view.kind = text(raw)?,
            3 => view.name = text(raw)?,
            4 => view.uid = text(raw)?,
            5 => view.api_version = text(raw)?,
            6 => view.controller = raw.int != 0,
            7 => view.block_owner_deletion = raw.int != 0,
            _ => {}
        }
    }
    Ok(view)
}

fn text(raw: Raw<'_>) -> Result<&str> {
    if raw.wire != wire::BYTES {
        return Err(Error::Wire("wrong wireType for field"));
    }
    std::str::from_utf8(raw.bytes).map_err(|_| Error::Wire("invalid UTF-8 in metadata"))
}

fn pair(raw: Raw<'_>) -> Result<(&str, &str)> {
    let (key, value) = map_entry(Elem::String, raw.bytes)?;
    let key = std::str::from_utf8(key).map_err(|_| Error::Wire("invalid UTF-8 in metadata"))?;
    Ok((key, text(value)?))
}

fn seconds(raw: Raw<'_>) -> Result<Option<i64>> {
    if raw.bytes.is_empty() { Ok(None) } else { Ok(Some(first_int(raw.bytes)? as i64)) }
}

/// A scalar of an enveloped object as text, as field selectors compare it: an absent string is empty, an absent
/// boolean `false`, an absent number `0`; `None` when a pointer on the way is nil or the kind has no such field.
///
/// # Errors
/// No envelope, an unknown kind, or malformed bytes.
pub fn field_text<'a>(bytes: &'a [u8], path: &[&str]) -> Result<Option<Cow<'a, str>>> {
    let envelope: Envelope<'a> = open_envelope(bytes)?;
    message_field_text(envelope.type_ref()?, envelope.raw, path)
}

/// As [`field_text`], on a bare message.
///
/// # Errors
/// Malformed bytes.
pub fn message_field_text<'a>(t: TypeRef, bytes: &'a [u8], path: &[&str]) -> Result<Option<Cow<'a, str>>> {
    let Some((name, rest)) = path.split_first() else { return Ok(None) };
    for field in t.fields() {
        if field.is_inline() {
            if let Some(inner) = field.struct_type().filter(|i| i.field(name).is_some()) {
                let content = last(bytes, field.number())?.map(|r| r.bytes).unwrap_or_default();
                return message_field_text(inner, content, path);
            }
            continue;
        }
        if field.name() != *name {
            continue;
        }
        let raw = last(bytes, field.number())?;
        if raw.is_none() && field.is_pointer() {
            return Ok(None);
        }
        if field.card() == Card::Map {
            let Some((key, [])) = rest.split_first() else { return Ok(None) };
            return map_value(bytes, field.number(), field.elem(), key);
        }
        return match (field.struct_type(), field.card()) {
            (Some(inner), Card::One) => message_field_text(inner, raw.map(|r| r.bytes).unwrap_or_default(), rest),
            (None, Card::One) if rest.is_empty() => element_text(field.elem(), raw),
            _ => Ok(None),
        };
    }
    Ok(None)
}

fn map_value<'a>(bytes: &'a [u8], number: u32, elem: Elem, key: &str) -> Result<Option<Cow<'a, str>>> {
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        if raw.number == number {
            let (found, value) = map_entry(elem, raw.bytes)?;
            if found == key.as_bytes() {
                return element_text(elem, Some(value));
            }
        }
    }
    Ok(None)
}

fn last(bytes: &[u8], number: u32) -> Result<Option<Raw<'_>>> {
    let mut found = None;
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        if raw.number == number {
            found = Some(raw);
        }
    }
    Ok(found)
}

fn element_text(elem: Elem, raw: Option<Raw<'_>>) -> Result<Option<Cow<'_, str>>> {
    let bytes = raw.map(|r| r.bytes).unwrap_or_default();
    let int = raw.map(|r| r.int).unwrap_or_default();
    Ok(Some(match elem {
        Elem::String => String::from_utf8_lossy(bytes),
        Elem::Bool => Cow::Borrowed(if int != 0 { "true" } else { "false" }),
        Elem::I32 | Elem::I64 => Cow::Owned((int as i64).to_string()),
        Elem::U32 | Elem::U64 => Cow::Owned(int.to_string()),
        Elem::Quantity => Cow::Owned(quantity(bytes)?),
        Elem::Time | Elem::MicroTime | Elem::IntOrString => match scalar_text(elem, bytes)? {
            Some(text) => Cow::Owned(text),
            None => return Ok(None),
        },
        Elem::Raw | Elem::Json => String::from_utf8_lossy(raw_json(bytes)?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::codec::{decode_json, encode_protobuf};

    #[test]
    fn reads_metadata_and_fields() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u", "generation": 3, "labels": {"a": "b"}, "finalizers": ["f"],
                "creationTimestamp": "1970-01-01T00:01:00Z", "annotations": {"x": "y"}, "deletionGracePeriodSeconds": 5,
                "deletionTimestamp": "1970-01-01T00:02:00Z",
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "ou", "controller": true}]
            },
            "spec": {"nodeName": "node", "hostNetwork": true, "containers": [], "nodeSelector": {"k": "v"}},
            "status": {"phase": "Running"}
        });
        let object = decode_json(pod.to_string().as_bytes(), None).expect("decode").object;
        let bytes = encode_protobuf(&object).expect("encode");
        let view = meta_view(&bytes).expect("view");
        assert_eq!((view.kind, view.name, view.namespace, view.uid, view.generation), ("Pod", "p", "n", "u", 3));
        assert_eq!((view.creation, view.deletion, view.deletion_grace_period_seconds), (Some(60), Some(120), Some(5)));
        assert_eq!(
            (view.label("a"), view.annotation("x"), view.finalizers.as_slice()),
            (Some("b"), Some("y"), &["f"][..])
        );
        let owner = &view.owner_references[0];
        assert_eq!(
            (owner.api_version, owner.kind, owner.name, owner.uid, owner.controller),
            ("v1", "K", "o", "ou", true)
        );
        for (path, want) in [
            (&["spec", "nodeName"][..], Some("node")),
            (&["spec", "hostNetwork"], Some("true")),
            (&["spec", "schedulerName"], Some("")),
            (&["status", "phase"], Some("Running")),
            (&["metadata", "name"], Some("p")),
            (&["spec", "nodeSelector", "k"], Some("v")),
            (&["spec", "nope"], None),
        ] {
            assert_eq!(field_text(&bytes, path).expect("field").as_deref(), want, "{path:?}");
        }
    }

    #[test]
    fn metadata_is_field_one_of_every_kind() {
        for kind in crate::kinds().filter(|k| k.type_ref.fields().iter().any(|f| f.number() != 0)) {
            let metadata = kind.type_ref.field("metadata").filter(|f| f.struct_type() == Some(TypeRef::OBJECT_META));
            if let Some(field) = metadata {
                assert_eq!(field.number(), 1, "{}", kind.kind);
            }
        }
        for (number, name) in
            [(1, "name"), (6, "resourceVersion"), (11, "labels"), (13, "ownerReferences"), (14, "finalizers")]
        {
            assert_eq!(TypeRef::OBJECT_META.field(name).map(crate::Field::number), Some(number));
        }
    }
}
