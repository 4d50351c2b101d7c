//! JSON patch (RFC 6902) and JSON merge patch (RFC 7396) on trees.

use serde::Deserialize;
use serde_json::Value;

/// Upstream's limit of operations in one JSON patch.
pub const MAX_OPERATIONS: usize = 10_000;

/// Why a patch failed.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: a bad request.
    #[error("{0}")]
    Malformed(String),
    /// More operations than allowed: a request too large.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// The patch does not fit the document: unprocessable.
    #[error("{0}")]
    DoesNotApply(String),
}

#[derive(Deserialize)]
struct Operation {
    op: String,
    path: String,
    #[serde(default)]
    from: Option<String>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
}

/// `value: null` is a value; only an absent field is none.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Applies a merge patch in place: null removes, objects merge, all else replaces.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge_patch(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Applies a JSON patch in place; on failure the target is left part-patched and is to be dropped.
///
/// # Errors
/// See [`PatchError`].
pub fn json_patch(target: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let operations: Vec<Operation> = serde_json::from_slice(patch).map_err(|e| PatchError::Malformed(e.to_string()))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    operations.into_iter().try_for_each(|operation| apply(target, operation))
}

fn apply(target: &mut Value, operation: Operation) -> Result<(), PatchError> {
    let path = operation.path.as_str();
    let needs_value = || PatchError::Malformed(format!("{} operation must have a value: path {path:?}", operation.op));
    let needs_from = || PatchError::Malformed(format!("{} operation must have a from", operation.op));
    match operation.op.as_str() {
        "add" => add(target, path, operation.value.clone().ok_or_else(needs_value)?),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            let value = operation.value.clone().ok_or_else(needs_value)?;
            *find(target, path, "replace")? = value;
            Ok(())
        }
        "move" => {
            let value = remove(target, operation.from.as_deref().ok_or_else(needs_from)?)?;
            add(target, path, value)
        }
        "copy" => {
            let value = find(target, operation.from.as_deref().ok_or_else(needs_from)?, "copy")?.clone();
            add(target, path, value)
        }
        "test" => {
            let want = operation.value.clone().unwrap_or(Value::Null);
            let have = find(target, path, "test").map(|v| v.clone()).unwrap_or(Value::Null);
            if have == want {
                Ok(())
            } else {
                Err(PatchError::DoesNotApply(format!("testing value {path} failed: test failed")))
            }
        }
        other => Err(PatchError::Malformed(format!("Unexpected kind: {other}"))),
    }
}

fn steps(path: &str) -> Result<Vec<String>, PatchError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let rest = path
        .strip_prefix('/')
        .ok_or_else(|| PatchError::DoesNotApply(format!("path {path:?} must begin with a slash")))?;
    Ok(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
}

fn missing(operation: &str, path: &str) -> PatchError {
    PatchError::DoesNotApply(format!(
        "{operation} operation does not apply: doc is missing path: {path:?}: missing value"
    ))
}

fn find<'a>(target: &'a mut Value, path: &str, operation: &str) -> Result<&'a mut Value, PatchError> {
    let mut at = target;
    for step in steps(path)? {
        at = match at {
            Value::Object(map) => map.get_mut(&step),
            Value::Array(list) => index(&step, list.len()).and_then(|i| list.get_mut(i)),
            _ => None,
        }
        .ok_or_else(|| missing(operation, path))?;
    }
    Ok(at)
}

/// An index; negative ones count from the end, as upstream's library allows.
fn index(step: &str, length: usize) -> Option<usize> {
    let index: i64 = step.parse().ok()?;
    if index < 0 { length.checked_sub(index.unsigned_abs() as usize) } else { Some(index as usize) }
}

fn parent<'a>(target: &'a mut Value, path: &str, operation: &str) -> Result<(&'a mut Value, String), PatchError> {
    let (head, _) = path.rsplit_once('/').ok_or_else(|| missing(operation, path))?;
    let last = steps(path)?.pop().ok_or_else(|| missing(operation, path))?;
    Ok((find(target, head, operation)?, last))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, last) = parent(target, path, "add")?;
    match parent {
        Value::Object(map) => {
            map.insert(last, value);
            Ok(())
        }
        Value::Array(list) if last == "-" => {
            list.push(value);
            Ok(())
        }
        Value::Array(list) => match index(&last, list.len() + 1) {
            Some(at) if at <= list.len() => {
                list.insert(at, value);
                Ok(())
            }
            _ => Err(PatchError::DoesNotApply(format!(
                "add operation does not apply: doc is missing path: {path:?}: invalid index referenced"
            ))),
        },
        _ => Err(missing("add", path)),
    }
}

fn remove(target: &mut Value, path: &str) -> Result<Value, PatchError> {
    let gone = || {
        PatchError::DoesNotApply(format!(
            "remove operation does not apply: doc is missing path: {path:?}: missing value"
        ))
    };
    let (parent, last) = parent(target, path, "remove")?;
    match parent {
        Value::Object(map) => map.remove(&last).ok_or_else(gone),
        Value::Array(list) => match index(&last, list.len()) {
            Some(at) if at < list.len() => Ok(list.remove(at)),
            _ => Err(gone()),
        },
        _ => Err(gone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_patch_operations() {
        let mut doc = json!({"a": {"b": [1, 2]}, "x/y": 1});
        let patch = json!([
            {"op": "test", "path": "/a/b/0", "value": 1},
            {"op": "add", "path": "/a/b/1", "value": 9},
            {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "remove", "path": "/x~1y"},
            {"op": "copy", "from": "/a/b/1", "path": "/c"},
            {"op": "move", "from": "/c", "path": "/d"},
            {"op": "replace", "path": "/a/b/0", "value": null},
        ]);
        json_patch(&mut doc, patch.to_string().as_bytes()).unwrap();
        assert_eq!(doc, json!({"a": {"b": [null, 9, 2, 3]}, "d": 9}));
        for bad in [json!([{"op": "remove", "path": "/nope"}]), json!([{"op": "test", "path": "/d", "value": 1}])] {
            assert!(json_patch(&mut doc, bad.to_string().as_bytes()).is_err());
        }
    }

    #[test]
    fn merge_patch_rfc_7396() {
        let mut doc = json!({"a": 1, "b": {"c": 2, "d": 3}});
        merge_patch(&mut doc, &json!({"a": null, "b": {"c": null, "e": {"f": null}}}));
        assert_eq!(doc, json!({"b": {"d": 3, "e": {}}}));
    }
}
