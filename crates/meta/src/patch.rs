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

/// Copies within one patch may add this many bytes at most: a few doublings would fill any memory.
const MAX_COPIED: usize = 3 * 1024 * 1024;

#[derive(Deserialize)]
struct Operation {
    #[serde(default)]
    op: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    from: Option<String>,
    /// Absent is null, as upstream.
    #[serde(default)]
    value: Value,
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
/// Where upstream's library is laxer than the RFC, so is this: a path's first step is not looked at, what is replaced or
/// copied need not be in its object, and a value that is not given is null.
///
/// # Errors
/// See [`PatchError`].
pub fn json_patch(target: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let operations: Option<Vec<Operation>> =
        serde_json::from_slice(patch).map_err(|e| PatchError::Malformed(e.to_string()))?;
    let operations = operations.unwrap_or_default();
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let mut copied = 0;
    operations.into_iter().try_for_each(|operation| apply(target, operation, &mut copied))
}

fn apply(target: &mut Value, operation: Operation, copied: &mut usize) -> Result<(), PatchError> {
    let fails = |why: &str| PatchError::DoesNotApply(format!("{} operation does not apply: {why}", operation.op));
    let path = operation.path.as_deref().ok_or_else(|| fails("operation missing path field"))?;
    let from = || operation.from.as_deref().ok_or_else(|| fails("operation missing from field"));
    match operation.op.as_str() {
        "add" => add(target, path, operation.value.clone()),
        "remove" => remove(target, path).map(drop),
        "replace" => replace(target, path, operation.value.clone()),
        "move" => {
            let value = remove(target, from()?)?;
            add(target, path, value)
        }
        "copy" => {
            let value = get(target, from()?, "copy")?.cloned().unwrap_or(Value::Null);
            *copied += value.to_string().len();
            if *copied > MAX_COPIED {
                return Err(PatchError::DoesNotApply(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                )));
            }
            add(target, path, value)
        }
        "test" => {
            let have = get(target, path, "test")?.unwrap_or(&Value::Null);
            if *have == operation.value {
                Ok(())
            } else {
                Err(PatchError::DoesNotApply(format!("testing value {path} failed: test failed")))
            }
        }
        other => Err(PatchError::DoesNotApply(format!("Unexpected kind: {other}"))),
    }
}

fn missing(operation: &str, path: &str) -> PatchError {
    PatchError::DoesNotApply(format!(
        "{operation} operation does not apply: doc is missing path: {path:?}: missing value"
    ))
}

/// An index; negative ones count from the end, as upstream's library allows.
fn index(step: &str, length: usize) -> Option<usize> {
    let index: i64 = step.parse().ok()?;
    if index < 0 { length.checked_sub(index.unsigned_abs() as usize) } else { Some(index as usize) }
}

/// What holds the place that a path names, and the last step to it.
fn parent<'a>(target: &'a mut Value, path: &str, operation: &str) -> Result<(&'a mut Value, String), PatchError> {
    let mut steps = path.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
    let mut last = steps.next().ok_or_else(|| missing(operation, path))?;
    let mut at = target;
    for step in steps {
        let next = match at {
            Value::Object(map) => map.get_mut(&last),
            Value::Array(list) => index(&last, list.len()).and_then(|i| list.get_mut(i)),
            _ => None,
        };
        at = next.ok_or_else(|| missing(operation, path))?;
        last = step;
    }
    if at.is_object() || at.is_array() { Ok((at, last)) } else { Err(missing(operation, path)) }
}

/// What is at a path; `None` for a field that its object does not have.
fn get<'a>(target: &'a mut Value, path: &str, operation: &str) -> Result<Option<&'a Value>, PatchError> {
    let (parent, last) = parent(target, path, operation)?;
    match parent {
        Value::Array(list) => {
            let found = index(&last, list.len()).and_then(|i| list.get(i));
            found.map(Some).ok_or_else(|| missing(operation, path))
        }
        other => Ok(other.get(&last)),
    }
}

fn replace(target: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, last) = parent(target, path, "replace")?;
    match parent {
        Value::Object(map) => drop(map.insert(last, value)),
        Value::Array(list) => {
            let place = index(&last, list.len()).and_then(|i| list.get_mut(i));
            *place.ok_or_else(|| missing("replace", path))? = value;
        }
        _ => return Err(missing("replace", path)),
    }
    Ok(())
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    let (parent, last) = parent(target, path, "add")?;
    match parent {
        Value::Object(map) => drop(map.insert(last, value)),
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => match index(&last, list.len() + 1) {
            Some(at) if at <= list.len() => list.insert(at, value),
            _ => {
                return Err(PatchError::DoesNotApply(format!(
                    "add operation does not apply: doc is missing path: {path:?}: invalid index referenced"
                )));
            }
        },
        _ => return Err(missing("add", path)),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, PatchError> {
    let (parent, last) = parent(target, path, "remove")?;
    let removed = match parent {
        Value::Object(map) => map.remove(&last),
        Value::Array(list) => index(&last, list.len()).filter(|at| *at < list.len()).map(|at| list.remove(at)),
        _ => None,
    };
    removed.ok_or_else(|| missing("remove", path))
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
        let lax = json!([
            {"op": "replace", "path": "/new", "value": 1}, {"op": "copy", "from": "/nope", "path": "/e"},
            {"op": "add", "path": "x/f"}, {"op": "test", "path": "/g", "value": null},
        ]);
        json_patch(&mut doc, lax.to_string().as_bytes()).unwrap();
        assert_eq!(doc, json!({"a": {"b": [null, 9, 2, 3]}, "d": 9, "new": 1, "e": null, "f": null}));
        json_patch(&mut doc, b"null").unwrap();
        let doubling = json!({"op": "copy", "from": "/a", "path": "/a/b/-"});
        for bad in [
            json!([{"op": "remove", "path": "/nope"}]),
            json!([{"op": "test", "path": "/d", "value": 1}]),
            json!([{"op": "nope", "path": "/d"}]),
            json!([{"op": "move", "path": "/d"}]),
            json!([{}]),
            json!([{"op": "add", "path": "", "value": {}}]),
            json!(vec![doubling; 100]),
        ] {
            assert!(json_patch(&mut doc, bad.to_string().as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn merge_patch_rfc_7396() {
        let mut doc = json!({"a": 1, "b": {"c": 2, "d": 3}});
        merge_patch(&mut doc, &json!({"a": null, "b": {"c": null, "e": {"f": null}}}));
        assert_eq!(doc, json!({"b": {"d": 3, "e": {}}}));
    }
}
