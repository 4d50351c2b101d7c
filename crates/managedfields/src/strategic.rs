//! Strategic merge patch: lists merge by key, directives delete, replace, order and retain.
//!
//! Driven by the table's patch strategies and merge keys, with upstream's errors. The patch is taken as the client sent
//! it; the original is an object in normal form.

use schema::{Card, Field, TypeRef};
use serde_json::{Map, Value};

mod lists;
mod order;

#[cfg(test)]
mod tests;

type Tree = Map<String, Value>;

const DIRECTIVE: &str = "$patch";
const DELETE: &str = "delete";
const REPLACE: &str = "replace";
const MERGE: &str = "merge";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PRIMITIVE: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

/// A patch that cannot be applied; the texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `$patch` has an unknown value.
    #[error("unknown patch type: {0} in map: {1}")]
    BadPatchType(String, String),
    /// An item of a merged list lacks its key.
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoMergeKey(String, String),
    /// `$retainKeys` is no list, or lacks a key of the patch.
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    /// A directive is of the wrong type.
    #[error("expected a {0}, but received a {1}")]
    BadType(&'static str, &'static str),
    /// `$patch: merge` inside a list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeInList,
    /// The items of a list differ in type.
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    /// A list of maps that has no merge key.
    #[error("cannot merge lists without merge key for {0}")]
    NoKey(String),
    /// The type has no such field.
    #[error("unable to find api field in struct {0} for the json field {1:?}")]
    UnknownField(String, String),
    /// A directive's key names no field.
    #[error("invalid key: {0} in directive")]
    BadDirective(String),
    /// `$setElementOrder` and the list disagree.
    #[error("The order in patch list:\n{0}\n doesn't match $setElementOrder list:\n{1}\n")]
    Order(String, String),
}

/// Applies a patch to an object of a built-in kind.
///
/// # Errors
/// A malformed patch, in upstream's words; the server answers 400 or 422 with them.
pub fn apply(original: &Tree, patch: &Tree, t: TypeRef) -> Result<Tree, Error> {
    merge_map(original.clone(), patch.clone(), &Meta::Struct(t))
}

/// What is known of a value's fields.
#[derive(Clone, Copy)]
enum Meta {
    /// A struct with its fields.
    Struct(TypeRef),
    /// A map's values are all alike.
    Values(&'static Field),
    /// Nothing.
    Unknown,
}

/// What is known of one field.
struct FieldMeta {
    below: Meta,
    strategy: &'static str,
    merge_key: &'static str,
}

impl Meta {
    fn field(&self, name: &str) -> Result<FieldMeta, Error> {
        let unknown = FieldMeta { below: Meta::Unknown, strategy: "", merge_key: "" };
        let t = match self {
            Self::Struct(t) => *t,
            Self::Values(field) => {
                let below = field.struct_type().map_or(Meta::Unknown, Meta::Struct);
                return Ok(FieldMeta { below, ..unknown });
            }
            Self::Unknown => return Ok(unknown),
        };
        let Some(field) = t.field(name) else {
            return Err(Error::UnknownField(t.name().to_owned(), name.to_owned()));
        };
        let below = match (field.card(), field.struct_type()) {
            (Card::Map | Card::MapOfLists, _) => Meta::Values(field),
            (_, Some(inner)) => Meta::Struct(inner),
            (_, None) => Meta::Unknown,
        };
        let strategy = field.patch_strategies().iter().copied().find(|s| *s != "retainKeys").unwrap_or("");
        Ok(FieldMeta { below, strategy, merge_key: field.patch_merge_key() })
    }

    fn name(&self) -> String {
        match self {
            Self::Struct(t) => t.name().to_owned(),
            Self::Values(field) => field.go_type().to_owned(),
            Self::Unknown => String::new(),
        }
    }
}

fn merge_map(mut original: Tree, mut patch: Tree, meta: &Meta) -> Result<Tree, Error> {
    if let Some(directive) = patch.get(DIRECTIVE).cloned() {
        return match directive.as_str() {
            Some(REPLACE) => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some(DELETE) => Ok(Tree::new()),
            _ => Err(bad_patch_type(&directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::merge_ordered(&mut original, &mut patch, meta)?;
    for (key, value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_PRIMITIVE) {
            Some(rest) => (directive_key(rest, &key)?.to_owned(), true),
            None => (key, false),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let fresh = match original.get(&key) {
            None => true,
            Some(old) => !same_type(old, &value),
        };
        if fresh {
            if !deletes {
                original.insert(key, without_directives(value));
            }
            continue;
        }
        let old = original.remove(&key).unwrap_or_default();
        let merged = match (old, value) {
            (Value::Object(old), Value::Object(new)) => {
                let field = meta.field(&key)?;
                if field.strategy == REPLACE {
                    Value::Object(new)
                } else {
                    Value::Object(merge_map(old, new, &field.below)?)
                }
            }
            (Value::Array(old), Value::Array(new)) => {
                let field = meta.field(&key)?;
                Value::Array(lists::merge(old, new, &field, deletes)?)
            }
            (_, new) => new,
        };
        original.insert(key, merged);
    }
    Ok(original)
}

fn retain_keys(original: &mut Tree, patch: &mut Tree) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(Error::RetainKeys) };
    let retained = |name: &str| keys.iter().any(|k| k == name);
    for (name, value) in patch.iter() {
        let directive = name.starts_with(DELETE_PRIMITIVE) || name.starts_with(ELEMENT_ORDER);
        if !value.is_null() && !directive && !retained(name) {
            return Err(Error::RetainKeys);
        }
    }
    original.retain(|name, _| retained(name));
    Ok(())
}

/// `$directive/field` → `field`.
fn directive_key<'k>(rest: &'k str, whole: &str) -> Result<&'k str, Error> {
    match rest.strip_prefix('/') {
        Some(key) if !key.is_empty() => Ok(key),
        _ => Err(Error::BadDirective(whole.to_owned())),
    }
}

fn bad_patch_type(directive: &Value, map: &Tree) -> Error {
    let text = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    Error::BadPatchType(text, Value::Object(map.clone()).to_string())
}

/// What a patch adds anew stands without directives and nulls.
fn without_directives(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let replace = map.get(DIRECTIVE).and_then(Value::as_str) == Some(DELETE);
            if replace {
                return Value::Object(Tree::new());
            }
            let kept = map.into_iter().filter(|(k, v)| !k.starts_with('$') && !v.is_null());
            Value::Object(kept.map(|(k, v)| (k, without_directives(v))).collect())
        }
        Value::Array(items) => {
            let kept = items.into_iter().filter(|item| {
                let only = item.as_object().and_then(|m| m.get(DIRECTIVE)).and_then(Value::as_str);
                !matches!(only, Some(DELETE | REPLACE))
            });
            Value::Array(kept.map(without_directives).collect())
        }
        scalar => scalar,
    }
}

fn same_type(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
