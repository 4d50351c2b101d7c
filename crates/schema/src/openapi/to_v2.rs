//! v3 turned into v2: definitions, parameters, bodies and answers.

use serde_json::{Map, Value, json};

const V3: &str = "#/components/schemas/";
const V2: &str = "#/definitions/";

/// Definitions: references move, what v2 does not know goes.
pub(super) fn definitions(schemas: Map<String, Value>) -> Map<String, Value> {
    schemas.into_iter().map(|(name, schema)| (name, convert(schema))).collect()
}

/// One schema.
fn convert(schema: Value) -> Value {
    let Value::Object(mut map) = schema else { return schema };
    if let Some(Value::String(target)) = map.get_mut("$ref") {
        *target = target.replacen(V3, V2, 1);
    }
    map.remove("default");
    if let Some(Value::Array(all)) = map.remove("allOf") {
        // The table's references stand in an `allOf` of one, to have siblings; v2 allows those.
        if let [Value::Object(only)] = all.as_slice() {
            if only.contains_key("$ref") {
                map.extend(convert(Value::Object(only.clone())).as_object().cloned().unwrap_or_default());
            }
        }
    }
    if map.remove("oneOf").is_some() && !map.contains_key("type") {
        map.insert("type".to_owned(), "string".into());
    }
    for key in ["anyOf", "not"] {
        map.remove(key);
    }
    if map.remove("nullable") == Some(Value::Bool(true)) {
        // A nullable value has no one type in v2.
        map.remove("type");
        map.remove("format");
        map.remove("properties");
        map.remove("items");
        map.remove("additionalProperties");
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        *properties = std::mem::take(properties).into_iter().map(|(k, v)| (k, convert(v))).collect();
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            *inner = convert(inner.take());
        }
    }
    Value::Object(map)
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
            let Some(Value::Object(content)) = response.as_object_mut().and_then(|r| r.remove("content")) else { continue };
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
