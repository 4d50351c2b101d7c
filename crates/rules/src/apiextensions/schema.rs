//! Structural schemas of custom resources.

use crate::C;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Validates the schema of a version; with a status subresource the root must be an object.
pub fn validate(schema: &C, status: bool) {
    if schema.get("nullable").is_true() {
        schema.get("nullable").forbidden("nullable cannot be true at the root");
    }
    let kind = schema.get("type");
    if kind.str() != "object" {
        if kind.is_zero() {
            kind.missing("must not be empty at the root");
        } else if status {
            kind.invalid(
                "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
            );
        } else {
            kind.invalid("must be object at the root");
        }
    }
    let before = schema.sink().len();
    node(schema, true);
    // Rules on a schema that is wrong would be found wrong for reasons that their author cannot see.
    if schema.sink().len() == before {
        super::expressions::validate(schema);
    }
}

fn node(schema: &C, root: bool) {
    let kind = schema.get("type");
    let free = schema.get("x-kubernetes-int-or-string").is_true()
        || schema.get("x-kubernetes-preserve-unknown-fields").is_true();
    if kind.is_zero() {
        if !root && !free {
            kind.missing("must not be empty for specified object fields");
        }
    } else if !TYPES.contains(&kind.str()) {
        kind.not_supported(&TYPES);
    }
    forbidden(schema);
    extensions(schema, &kind);
    let (properties, additional) = (schema.get("properties"), schema.get("additionalProperties"));
    if properties.exists() && additional.exists() && additional.bool() != Some(false) {
        additional.forbidden("additionalProperties and properties are mutual exclusive");
    }
    for (_, property) in properties.entries() {
        node(&property, false);
    }
    if additional.value().is_some_and(serde_json::Value::is_object) {
        node(&additional, false);
    }
    let items = schema.get("items");
    if items.exists() {
        if items.value().is_some_and(serde_json::Value::is_array) {
            items.forbidden("items must be a schema object and not an array");
        } else {
            node(&items, false);
        }
    } else if kind.str() == "array" {
        items.missing("must be specified");
    }
    for junction in ["allOf", "anyOf", "oneOf"] {
        for branch in schema.get(junction).items() {
            value_validation(&branch);
        }
    }
    if schema.get("not").exists() {
        value_validation(&schema.get("not"));
    }
}

/// What a structural schema may not use at all.
fn forbidden(schema: &C) {
    if schema.get("uniqueItems").is_true() {
        let word = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        schema.get("uniqueItems").forbidden(word);
    }
    for field in ["definitions", "dependencies", "patternProperties", "additionalItems", "$ref", "id"] {
        let value = schema.get(field);
        if !value.is_zero() {
            value.forbidden(format!("{field} is not supported"));
        }
    }
}

fn extensions(schema: &C, kind: &C) {
    let preserve = schema.get("x-kubernetes-preserve-unknown-fields");
    if preserve.bool() == Some(false) {
        preserve.invalid("must be true or undefined");
    }
    let map_type = schema.get("x-kubernetes-map-type");
    if map_type.exists() {
        map_type.one_of(&["atomic", "granular"]);
        if kind.is_zero() {
            kind.missing("must be object if x-kubernetes-map-type is specified");
        } else if kind.str() != "object" {
            kind.invalid("must be object if x-kubernetes-map-type is specified");
        }
    }
    let (list_type, keys) = (schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys"));
    if list_type.exists() {
        list_type.one_of(&["atomic", "set", "map"]);
        if kind.is_zero() {
            kind.missing("must be array if x-kubernetes-list-type is specified");
        } else if kind.str() != "array" {
            kind.invalid("must be array if x-kubernetes-list-type is specified");
        }
    }
    match (list_type.str(), keys.len()) {
        ("map", 0) => keys.missing("must not be empty if x-kubernetes-list-type is map"),
        ("map", _) => {
            let properties = schema.get("items");
            let properties = properties.get("properties");
            if keys.items().any(|key| properties.key(key.str()).value().is_none()) {
                keys.invalid("entries must all be names of item properties");
            }
        }
        ("", count) if count > 0 => list_type.missing("must be map if x-kubernetes-list-map-keys is non-empty"),
        (_, count) if count > 0 => list_type.invalid("must be map if x-kubernetes-list-map-keys is non-empty"),
        _ => {}
    }
    for rule in schema.get("x-kubernetes-validations").items() {
        if rule.get("rule").str().trim().is_empty() {
            rule.get("rule").missing("rule is not specified");
        }
        expression_texts(&rule);
    }
}

/// The texts of a rule beside its expressions.
fn expression_texts(rule: &C) {
    let (message, expression, path) = (rule.get("message"), rule.get("messageExpression"), rule.get("fieldPath"));
    if !message.is_zero() && message.str().trim().is_empty() {
        message.invalid("must be non-empty if specified");
    } else if message.str().trim().contains('\n') {
        message.invalid("must not contain line breaks");
    } else if rule.get("rule").str().trim().contains('\n') && message.is_zero() {
        message.missing("message must be specified if rule contains line breaks");
    }
    if !expression.is_zero() && expression.str().trim().is_empty() {
        expression.missing("messageExpression must be non-empty if specified");
    }
    rule.get("reason").optional_one_of(&[
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ]);
    if !path.is_zero() && path.str().trim().is_empty() {
        path.invalid("must be non-empty if specified");
    }
    if path.str().contains('\n') {
        path.invalid("must not contain line breaks");
    }
}

/// A branch of a junction only narrows: it names no types, defaults or structure of its own.
fn value_validation(branch: &C) {
    for field in ["description", "title", "nullable", "x-kubernetes-preserve-unknown-fields"] {
        if !branch.get(field).is_zero() {
            branch.get(field).forbidden("must be empty to be structural");
        }
    }
    if branch.get("default").exists() {
        branch.get("default").forbidden("must be undefined to be structural");
    }
    let kind = branch.get("type");
    if !kind.is_zero() && !matches!(kind.str(), "integer" | "string") {
        kind.forbidden("must be empty to be structural");
    }
    for (_, property) in branch.get("properties").entries() {
        value_validation(&property);
    }
}
