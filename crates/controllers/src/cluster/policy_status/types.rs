//! Types of kinds, from the API server's OpenAPI documents.

use bytes::Bytes;
use celx::Type;
use celx::schema::declare;
use client::{Client, Error};
use http::Method;
use meta::GroupVersionKind;
use serde_json::{Map, Value, json};

/// Deepest that schemas are followed; a type that contains itself ends there, as anything.
const DEEPEST: usize = 24;

/// The type of a kind; `None` when the API server publishes none.
pub(super) async fn of(client: &Client, kind: &GroupVersionKind) -> Result<Option<Type>, Error> {
    let path = match kind.group.as_str() {
        "" => format!("/openapi/v3/api/{}", kind.version),
        group => format!("/openapi/v3/apis/{group}/{}", kind.version),
    };
    let bytes = match client.call(Method::GET, &path, None, Bytes::new()).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let document: Value = serde_json::from_slice(&bytes).map_err(Error::Decode)?;
    Ok(type_in(&document, kind))
}

fn type_in(document: &Value, kind: &GroupVersionKind) -> Option<Type> {
    let schemas = document.pointer("/components/schemas")?.as_object()?;
    let wanted = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let is_kind = |schema: &&Value| {
        let kinds = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
        kinds.is_some_and(|kinds| kinds.contains(&wanted))
    };
    let schema = schemas.values().find(is_kind)?;
    let whole = expanded(schema, schemas, &mut Vec::new());
    declare(&whole, false).map(|declared| declared.ty)
}

/// A schema with its references replaced by what they refer to.
fn expanded(schema: &Value, all: &Map<String, Value>, open: &mut Vec<String>) -> Value {
    const ANYTHING: &str = "x-kubernetes-int-or-string";
    let reference = |schema: &Value| schema.get("$ref").and_then(Value::as_str).map(str::to_owned);
    let only = schema.get("allOf").and_then(Value::as_array).filter(|parts| parts.len() == 1);
    if let Some(reference) = reference(schema).or_else(|| only.and_then(|parts| reference(&parts[0]))) {
        let name = reference.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(found) = all.get(&name).filter(|_| !open.contains(&name) && open.len() < DEEPEST) else {
            return json!({ANYTHING: true});
        };
        open.push(name);
        let whole = expanded(found, all, open);
        open.pop();
        return whole;
    }
    let Some(fields) = schema.as_object() else { return schema.clone() };
    if !fields.contains_key("type") {
        // A choice between types, or any value at all.
        return json!({ANYTHING: true});
    }
    let mut whole = Map::new();
    for (key, value) in fields {
        let value = match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                properties.iter().map(|(name, child)| (name.clone(), expanded(child, all, open))).collect()
            }
            ("items" | "additionalProperties", Value::Object(_)) => expanded(value, all, open),
            ("description" | "example", _) => continue,
            _ => value.clone(),
        };
        whole.insert(key.clone(), value);
    }
    Value::Object(whole)
}

#[cfg(test)]
mod tests {
    use celx::admission::{Has, Want, compile, env};

    use super::*;

    #[test]
    fn expressions_are_checked_by_published_schemas() {
        let kind = GroupVersionKind::new("apps", "v1", "Deployment");
        let document = json!({"components": {"schemas": {
            "d": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Deployment"}],
                "properties": {"spec": {"allOf": [{"$ref": "#/components/schemas/s"}], "default": {}}}},
            "s": {"type": "object", "properties": {"replicas": {"type": "integer"}, "again": {"$ref": "#/components/schemas/s"},
                "port": {"oneOf": [{"type": "integer"}, {"type": "string"}]}}},
        }}});
        let ty = type_in(&document, &kind).expect("published");
        let env = env(Has::default(), ty, Type::DYN);
        let finding = |source: &str| compile(&env, source, Want::Any).err().unwrap_or_default();
        assert_eq!(finding("object.spec.replicas > 1 && object.spec.port == 'x'"), "");
        let wrong = "found no matching overload for '_>_' applied to '(int, string)'";
        assert!(finding("object.spec.replicas > '1'").contains(wrong));
        assert!(finding("object.spec.nope == 1").contains("undefined field 'nope'"));
        let wrong = "found no matching overload for '_+_' applied to '(string, int)'";
        assert!(finding("'got ' + object.spec.replicas").contains(wrong));
    }
}
