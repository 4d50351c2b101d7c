//! FieldsV1: a set of paths as JSON.

use serde_json::{Map, Value};

use crate::element::PathElement;
use crate::set::Set;

/// A FieldsV1 value that is no set of paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FieldsError(String);

/// Reads a FieldsV1 value; `null` is the empty set.
///
/// # Errors
/// A key or value that FieldsV1 does not have.
pub fn from_fields_v1(value: &Value) -> Result<Set, FieldsError> {
    match value {
        Value::Null => Ok(Set::new()),
        Value::Object(map) => Ok(read(map)?.0),
        _ => Err(FieldsError("fieldsV1 must be an object".to_owned())),
    }
}

/// The set below a key, and whether the key itself is a member.
fn read(map: &Map<String, Value>) -> Result<(Set, bool), FieldsError> {
    let mut set = Set::new();
    // A key without anything below it stands for itself.
    let mut member = map.is_empty();
    for (key, value) in map {
        if key == "." {
            member = true;
            continue;
        }
        let element = PathElement::parse(key).map_err(FieldsError)?;
        let below = match value {
            Value::Object(below) => below,
            Value::Null => &Map::new(),
            _ => return Err(FieldsError(format!("unexpected value below {key}"))),
        };
        let (child, is_member) = read(below)?;
        if is_member {
            set.members.insert(element.clone());
        }
        if !child.is_empty() {
            set.children.insert(element, child);
        }
    }
    Ok((set, member))
}

/// Writes a set as FieldsV1.
pub fn to_fields_v1(set: &Set) -> Value {
    Value::Object(write(set))
}

fn write(set: &Set) -> Map<String, Value> {
    let mut map = Map::new();
    for member in &set.members {
        map.insert(member.serialize(), Value::Object(Map::new()));
    }
    for (element, child) in set.children.iter().filter(|(_, child)| !child.is_empty()) {
        let mut below = write(child);
        if set.members.contains(element) {
            below.insert(".".to_owned(), Value::Object(Map::new()));
        }
        map.insert(element.serialize(), Value::Object(below));
    }
    map
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn round_trips() {
        let value = json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}, "f:list": {"v:1": {}, "i:2": {}}}
        });
        let set = from_fields_v1(&value).expect("set");
        assert_eq!(to_fields_v1(&set), value);
        let texts: Vec<String> = set.paths().iter().map(|p| crate::element::path_text(p)).collect();
        assert!(texts.contains(&".spec.containers[name=\"c\"].image".to_owned()), "{texts:?}");
        assert!(from_fields_v1(&json!({"x": {}})).is_err());
        assert!(from_fields_v1(&json!([])).is_err());
    }
}
