//! One object as it is kept: stored bytes with what selectors look at.

use std::borrow::Cow;

use bytes::Bytes;
use meta::selector::{FieldSelector, LabelSelector};
use meta::{GroupVersionKind, Object, Status};
use serde_json::Value;

use crate::listing::ListOptions;
use crate::row::{KindRow, StoredMedia};
use crate::scan;
use crate::strategy::FieldSource;

/// An object's stored bytes and revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// As in the store: protobuf with envelope, or JSON; without `resourceVersion`.
    pub value: Bytes,
    /// The revision, 0 for an object of a dry run.
    pub revision: i64,
}

/// An object in the watch cache.
#[derive(Debug)]
pub struct Entry {
    /// Key in the store.
    pub key: Bytes,
    /// Value and revision.
    pub raw: Raw,
    /// Values of the row's selectable fields, in their order.
    pub fields: Box<[Box<str>]>,
    /// Labels of a JSON object, looked at once; protobuf is scanned when needed.
    labels: Option<Box<[(Box<str>, Box<str>)]>>,
}

impl Entry {
    /// Prepares a stored object for the cache.
    pub(crate) fn new(row: &KindRow, key: Bytes, value: Bytes, revision: i64) -> Self {
        let raw = Raw { value, revision };
        let selectable = row.strategy.selectable_fields();
        let computed = selectable.iter().any(|f| matches!(f.source, FieldSource::Fn(_)));
        let mut labels = None;
        let tree = match row.media {
            StoredMedia::Json => {
                let tree: Object = serde_json::from_slice(&raw.value).unwrap_or_default();
                labels = Some(tree.labels().map(|(k, v)| (k.into(), v.into())).collect());
                Some(tree)
            }
            StoredMedia::Protobuf if computed => decode(row, &raw).ok(),
            StoredMedia::Protobuf => None,
        };
        let envelope = schema::codec::open_envelope(&raw.value).ok();
        let fields = selectable
            .iter()
            .map(|field| match (&tree, field.source, &envelope) {
                (Some(tree), _, _) => field.value(tree).into(),
                (None, FieldSource::Path(path, absent), Some(envelope)) => envelope
                    .type_ref()
                    .ok()
                    .and_then(|t| scan::scalar(t, envelope.raw, path))
                    .unwrap_or_else(|| absent.to_owned())
                    .into(),
                (None, FieldSource::Join(list, field), Some(envelope)) => envelope
                    .type_ref()
                    .ok()
                    .and_then(|t| scan::joined(t, envelope.raw, list, field))
                    .unwrap_or_default()
                    .into(),
                _ => "".into(),
            })
            .collect();
        Self { key, raw, fields, labels }
    }

    /// Namespace (empty if cluster-scoped) and name, from the key.
    pub fn identity(&self, row: &KindRow) -> (&str, &str) {
        let path = std::str::from_utf8(&self.key).unwrap_or("");
        let rest = path.get(row.key_prefix.len() + 1..).unwrap_or("");
        if row.namespaced { rest.split_once('/').unwrap_or(("", rest)) } else { ("", rest) }
    }

    /// Whether both selectors match.
    pub fn matches(&self, row: &KindRow, labels: &LabelSelector, fields: &FieldSelector) -> bool {
        self.matches_fields(row, fields) && self.matches_labels(labels)
    }

    /// As [`Entry::matches`] for what a list or watch asks for, the version of its fields included. May call a conversion
    /// webhook.
    pub fn matches_all(&self, row: &KindRow, options: &ListOptions) -> bool {
        let Some(at) = &options.fields_at else { return self.matches(row, &options.labels, &options.fields) };
        self.matches_labels(&options.labels) && self.matches_fields_at(row, &options.fields, at)
    }

    fn matches_fields_at(&self, row: &KindRow, selector: &FieldSelector, at: &GroupVersionKind) -> bool {
        let converted = decode(row, &self.raw).and_then(|mut object| {
            row.convert_to(&mut object, at)?;
            Ok(object)
        });
        let object = match converted {
            Ok(object) => object,
            Err(error) => {
                tracing::warn!(resource = %row.plural, error = %error, "cannot convert an object to select it");
                return false;
            }
        };
        let (namespace, name) = self.identity(row);
        selector.matches_with(|field| match field {
            "metadata.name" => Some(Cow::Borrowed(name)),
            "metadata.namespace" => Some(Cow::Borrowed(namespace)),
            _ => {
                let known = row.strategy.selectable_fields().iter().find(|f| f.name == field)?;
                Some(Cow::Owned(known.value(&object)))
            }
        })
    }

    fn matches_fields(&self, row: &KindRow, selector: &FieldSelector) -> bool {
        if selector.is_everything() {
            return true;
        }
        let (namespace, name) = self.identity(row);
        selector.matches_with(|field| match field {
            "metadata.name" => Some(Cow::Borrowed(name)),
            "metadata.namespace" => Some(Cow::Borrowed(namespace)),
            _ => {
                let at = row.strategy.selectable_fields().iter().position(|f| f.name == field)?;
                self.fields.get(at).map(|value| Cow::Borrowed(&**value))
            }
        })
    }

    fn matches_labels(&self, selector: &LabelSelector) -> bool {
        if selector.is_everything() {
            return true;
        }
        if let Some(labels) = &self.labels {
            return selector.matches_with(|key| labels.iter().find(|(k, _)| &**k == key).map(|(_, v)| &**v));
        }
        let Ok(envelope) = schema::codec::open_envelope(&self.raw.value) else { return false };
        selector.matches_with(|key| scan::labels(envelope.raw).find(|(k, _)| *k == key).map(|(_, v)| v))
    }
}

/// Decodes stored bytes to a tree in the stored kind, `resourceVersion` filled in.
///
/// # Errors
/// The bytes are damaged: 500.
pub fn decode(row: &KindRow, raw: &Raw) -> Result<Object, Status> {
    let mut object = if raw.value.starts_with(&schema::codec::MAGIC) {
        schema::codec::decode_protobuf(&raw.value).map_err(|e| damaged(row, &e))?
    } else {
        let tree: Value = serde_json::from_slice(&raw.value).map_err(|e| damaged(row, &e))?;
        Object::from_value(tree).ok_or_else(|| Status::internal("a stored value is no object"))?
    };
    if let Some(custom) = &row.custom {
        // What was stored under an older schema is shown by the present one; damage is left to be seen.
        let version = object.gvk().version;
        let _ = custom.accept(&mut object, &version);
    }
    if raw.revision > 0 {
        object.set_meta_str("resourceVersion", &raw.revision.to_string());
    }
    Ok(object)
}

/// Decodes stored bytes to a tree in the hub kind.
///
/// # Errors
/// Damaged bytes, or no conversion.
pub fn decode_hub(row: &KindRow, raw: &Raw) -> Result<Object, Status> {
    let mut object = decode(row, raw)?;
    row.convert_to(&mut object, &row.hub)?;
    if let Some(decorate) = row.strategy.decorator() {
        decorate(&mut object);
    }
    Ok(object)
}

/// Encodes an object (hub kind) for the store.
///
/// # Errors
/// No conversion, or a value of the wrong type.
pub fn encode(row: &KindRow, object: &Object) -> Result<Bytes, Status> {
    let failed = |e: &dyn std::fmt::Display| Status::internal(format!("encode {}: {e}", row.kind));
    if row.media == StoredMedia::Protobuf && object.gvk() == row.stored {
        let bytes = schema::codec::encode_stored(object).map_err(|e| failed(&e))?;
        // The value is kept as long as the object lives: with no room to spare.
        return Ok(bytes.into_boxed_slice().into());
    }
    let mut stored = object.clone();
    row.convert_to(&mut stored, &row.stored)?;
    if let Some(metadata) = stored.body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    let bytes = match row.media {
        StoredMedia::Protobuf => schema::codec::encode_protobuf(&stored).map_err(|e| failed(&e))?,
        StoredMedia::Json => schema::codec::to_json(&stored),
    };
    Ok(bytes.into_boxed_slice().into())
}

fn damaged(row: &KindRow, error: &dyn std::fmt::Display) -> Status {
    Status::internal(format!("decode stored {}: {error}", row.kind))
}
