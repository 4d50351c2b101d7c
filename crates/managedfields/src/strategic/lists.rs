//! Lists: of maps by merge key, of scalars as sets.

use serde_json::Value;

use super::{
    DELETE, DIRECTIVE, Error, FieldMeta, MERGE, Meta, REPLACE, Tree, bad_patch_type, merge_map, order, same_type,
    without_directives,
};

/// Merges a patch's list into the original by the field's strategy.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    field: &FieldMeta,
    deletes: bool,
) -> Result<Vec<Value>, Error> {
    if field.strategy != MERGE {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let maps = element_is_map(&original, &patch)?;
    if !maps {
        if deletes {
            return Ok(original.into_iter().filter(|item| !patch.contains(item)).collect());
        }
        let mut merged = original.clone();
        for item in &patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        let mut unique: Vec<Value> = Vec::with_capacity(merged.len());
        for item in merged {
            if !unique.contains(&item) {
                unique.push(item);
            }
        }
        return Ok(order::normalise(unique, &patch, &original, ""));
    }
    if field.merge_key.is_empty() {
        return Err(Error::NoKey(field.below.name()));
    }
    let (original, patch) = special_elements(original, patch, field.merge_key)?;
    let merged = plain_elements(original.clone(), &patch, field.merge_key, &field.below)?;
    Ok(order::normalise(merged, &patch, &original, field.merge_key))
}

/// Whether the items are maps; all must be alike.
pub(super) fn element_is_map(original: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let mut items = original.iter().chain(patch);
    let Some(first) = items.next() else { return Ok(false) };
    match items.find(|item| !same_type(first, item)) {
        Some(other) => Err(Error::MixedList(format!("{first} {other}"))),
        None => Ok(first.is_object()),
    }
}

/// Carries out `$patch` directives among the items.
fn special_elements(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut plain = Vec::new();
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE).cloned() else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some(DELETE) => {
                let value = item.get(key).ok_or_else(|| Error::NoMergeKey(item.to_string(), key.to_owned()))?;
                original.retain(|o| o.get(key) != Some(value));
            }
            Some(REPLACE) => replace = true,
            Some(MERGE) => return Err(Error::MergeInList),
            _ => return Err(bad_patch_type(&directive, &item.as_object().cloned().unwrap_or_default())),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

fn plain_elements(mut original: Vec<Value>, patch: &[Value], key: &str, below: &Meta) -> Result<Vec<Value>, Error> {
    for item in patch {
        let value = item.get(key).ok_or_else(|| Error::NoMergeKey(item.to_string(), key.to_owned()))?;
        match original.iter_mut().find(|o| o.get(key) == Some(value)) {
            Some(found) => {
                let old = found.as_object().cloned().unwrap_or_default();
                let new: Tree = item.as_object().cloned().unwrap_or_default();
                *found = Value::Object(merge_map(old, new, below)?);
            }
            None => original.push(without_directives(item.clone())),
        }
    }
    Ok(original)
}
