//! v3 turned into v2: definitions, parameters, bodies and answers.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

const V3: &str = "#/components/schemas/";
const V2: &str = "#/definitions/";
const GVK: &str = "x-kubernetes-group-version-kind";

/// Definitions: references move, what v2 does not know goes.
pub(super) fn definitions(schemas: Map<String, Value>, customs: &BTreeSet<String>) -> Map<String, Value> {
    let one = |(name, schema): (String, Value)| {
        let schema = if customs.contains(&name) { custom(schema, true) } else { convert(schema) };
        (name, schema)
    };
    schemas.into_iter().map(one).collect()
}

/// A schema of the table.
fn convert(schema: Value) -> Value {
    let Value::Object(mut map) = schema else { return schema };
    map.remove("default");
    move_reference(&mut map);
    if map.remove("oneOf").is_some() {
        // Quantity and IntOrString.
        map.insert("type".to_owned(), "string".into());
    }
    below(&mut map, &convert);
    Value::Object(map)
}

/// A custom resource's schema: v2 knows no unions of schemas, and kubectl no open objects with known fields.
fn custom(schema: Value, root: bool) -> Value {
    let Value::Object(mut map) = schema else { return schema };
    move_reference(&mut map);
    for key in ["allOf", "oneOf", "anyOf", "not"] {
        map.remove(key);
    }
    let open = map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if open && root {
        let gvk = map.remove(GVK).unwrap_or_default();
        return json!({"type": "object", GVK: gvk});
    }
    let nullable = map.remove("nullable") == Some(Value::Bool(true));
    if open || nullable {
        map.remove("items");
        map.remove("properties");
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if nullable || kind == "array" && !map.contains_key("items") || open && kind == "object" {
        map.remove("type");
    }
    require_no_nullable(&mut map);
    below(&mut map, &|schema| custom(schema, false));
    Value::Object(map)
}

/// What may be null cannot be required in v2.
fn require_no_nullable(map: &mut Map<String, Value>) {
    let is_nullable = |schema: Option<&Value>| schema.and_then(|s| s.get("nullable")) == Some(&Value::Bool(true));
    if is_nullable(map.get("additionalProperties")) {
        map.remove("required");
    }
    let properties = map.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|name| !is_nullable(name.as_str().and_then(|name| properties.get(name))));
        if required.is_empty() {
            map.remove("required");
        }
    }
}

/// References move; an `allOf` around one is only there to give it siblings, which v2 allows anyway.
fn move_reference(map: &mut Map<String, Value>) {
    let inner = match map.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => only.get("$ref").cloned(),
        _ => None,
    };
    if let Some(reference) = inner {
        map.remove("allOf");
        map.insert("$ref".to_owned(), reference);
    }
    if let Some(Value::String(target)) = map.get_mut("$ref") {
        *target = target.replacen(V3, V2, 1);
    }
}

/// Converts the schemas inside one.
fn below(map: &mut Map<String, Value>, convert: &dyn Fn(Value) -> Value) {
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        *properties = std::mem::take(properties).into_iter().map(|(k, v)| (k, convert(v))).collect();
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            *inner = convert(inner.take());
        }
    }
}

/// Paths: bodies become parameters, contents become `produces` and one schema.
pub(super) fn paths(paths: Map<String, Value>) -> Map<String, Value> {
    let item = |item: Value| -> Value {
        let Value::Object(item) = item else { return item };
        let parts = item.into_iter().map(|(key, value)| {
            let value = if key == "parameters" { parameters(value) } else { operation(value) };
            (key, value)
        });
        Value::Object(parts.collect())
    };
    paths.into_iter().map(|(path, value)| (path, item(value))).collect()
}

fn parameters(list: Value) -> Value {
    let Value::Array(list) = list else { return list };
    let flat = list.into_iter().map(|parameter| match parameter {
        Value::Object(mut map) => {
            if let Some(Value::Object(schema)) = map.remove("schema") {
                map.extend(schema);
            }
            Value::Object(map)
        }
        other => other,
    });
    flat.collect()
}

fn operation(operation: Value) -> Value {
    let Value::Object(mut map) = operation else { return operation };
    let mut list = match parameters(map.remove("parameters").unwrap_or_default()) {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    let mut consumes = vec![Value::from("*/*")];
    if let Some(body) = map.remove("requestBody") {
        let content = body["content"].as_object().cloned().unwrap_or_default();
        consumes = content.keys().cloned().map(Value::from).collect();
        if let Some((_, first)) = content.into_iter().next() {
            let mut parameter = json!({"name": "body", "in": "body", "schema": convert(first["schema"].clone())});
            if body["required"] == true {
                parameter["required"] = true.into();
            }
            list.insert(0, parameter);
        }
    }
    if !list.is_empty() {
        map.insert("parameters".to_owned(), list.into());
    }
    map.insert("consumes".to_owned(), consumes.into());
    map.insert("schemes".to_owned(), json!(["https"]));
    let mut produces = Vec::new();
    if let Some(Value::Object(responses)) = map.get_mut("responses") {
        for response in responses.values_mut() {
            let Some(Value::Object(content)) = response.as_object_mut().and_then(|r| r.remove("content")) else {
                continue;
            };
            if produces.is_empty() {
                produces = content.keys().cloned().map(Value::from).collect();
            }
            if let Some((_, first)) = content.into_iter().next() {
                response["schema"] = convert(first["schema"].clone());
            }
        }
    }
    map.insert("produces".to_owned(), produces.into());
    Value::Object(map)
}
