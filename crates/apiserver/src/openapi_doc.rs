//! The OpenAPI documents' content, from the schema table and the registry's rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use registry::{KindRow, Verbs};
use schema::{Card, Elem, Field, ListType, TypeRef};
use serde_json::{Map, Value, json};

fn element(elem: Elem, reference: &str, used: &mut Vec<TypeRef>) -> Value {
    match elem {
        Elem::String => json!({"type": "string"}),
        Elem::Bytes => json!({"type": "string", "format": "byte"}),
        Elem::Bool => json!({"type": "boolean"}),
        Elem::I32 | Elem::U32 => json!({"type": "integer", "format": "int32"}),
        Elem::I64 | Elem::U64 => json!({"type": "integer", "format": "int64"}),
        Elem::F64 => json!({"type": "number", "format": "double"}),
        Elem::Time | Elem::MicroTime => json!({"type": "string", "format": "date-time"}),
        Elem::Duration | Elem::Quantity => json!({"type": "string"}),
        Elem::IntOrString => json!({"type": "string", "format": "int-or-string"}),
        Elem::Raw | Elem::FieldsV1 => json!({"type": "object"}),
        Elem::StringList => json!({"type": "array", "items": {"type": "string"}}),
        Elem::Struct(_) | Elem::Json | Elem::PropsOrArray(_) | Elem::PropsOrBool(_) | Elem::PropsOrStrings(_) | Elem::Any => {
            let Elem::Struct(_) = elem else { return json!({}) };
            used.iter().for_each(drop);
            json!({"$ref": reference})
        }
    }
}

fn property(field: &Field, prefix: &str, used: &mut Vec<TypeRef>) -> Value {
    let target = field.struct_type();
    let reference = match target {
        Some(t) => {
            used.push(t);
            format!("{prefix}{}", t.openapi_name())
        }
        None => String::new(),
    };
    let mut one = element(field.elem(), &reference, used);
    // A reference with siblings is ignored by readers of v3: it is wrapped, as upstream's.
    if one.get("$ref").is_some() && prefix.starts_with("#/components") && field.card() == Card::One {
        one = json!({"allOf": [one], "default": {}});
    }
    let mut schema = match field.card() {
        Card::One => one,
        Card::List => json!({"type": "array", "items": one}),
        Card::Map => json!({"type": "object", "additionalProperties": one}),
        Card::MapOfLists => json!({"type": "object", "additionalProperties": {"type": "array", "items": one}}),
    };
    match field.list_type() {
        ListType::Atomic => schema["x-kubernetes-list-type"] = "atomic".into(),
        ListType::Set => schema["x-kubernetes-list-type"] = "set".into(),
        ListType::Map => {
            schema["x-kubernetes-list-type"] = "map".into();
            schema["x-kubernetes-list-map-keys"] = json!(field.list_keys());
        }
        _ => {}
    }
    if !field.patch_merge_key().is_empty() {
        schema["x-kubernetes-patch-merge-key"] = field.patch_merge_key().into();
    }
    if !field.patch_strategies().is_empty() {
        schema["x-kubernetes-patch-strategy"] = field.patch_strategies().join(",").into();
    }
    schema
}

fn definition(t: TypeRef, prefix: &str, used: &mut Vec<TypeRef>) -> Value {
    let mut properties = Map::new();
    if t.is_kind() {
        properties.insert("apiVersion".into(), json!({"type": "string"}));
        properties.insert("kind".into(), json!({"type": "string"}));
    }
    let mut required = Vec::new();
    for field in t.json_fields() {
        if field.name().is_empty() {
            continue;
        }
        properties.insert(field.name().to_owned(), property(field, prefix, used));
        if field.is_required() {
            required.push(field.name());
        }
    }
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    let kinds: Vec<Value> =
        t.gvks().map(|k| json!({"group": k.group, "version": k.version, "kind": k.kind})).collect();
    if !kinds.is_empty() {
        schema["x-kubernetes-group-version-kind"] = kinds.into();
    }
    schema
}

/// Definitions of all types reachable from some.
fn definitions(roots: Vec<TypeRef>, prefix: &str) -> Map<String, Value> {
    let mut all = Map::new();
    let mut open = roots;
    while let Some(t) = open.pop() {
        let name = t.openapi_name();
        if all.contains_key(&name) {
            continue;
        }
        let mut used = Vec::new();
        let schema = definition(t, prefix, &mut used);
        all.insert(name, schema);
        open.extend(used);
    }
    all
}

/// Custom resources have the schema of their definition.
fn custom_name(row: &KindRow, version: &str) -> String {
    let mut parts: Vec<&str> = row.group.split('.').rev().collect();
    parts.push(version);
    parts.push(&row.kind);
    parts.join(".")
}

fn custom_schema(row: &KindRow, version: &str, prefix: &str) -> Value {
    let schema = row.custom.as_ref().and_then(|c| c.schema(version));
    let mut value = schema.map_or_else(|| json!({"type": "object"}), |s| (*s).clone());
    if let Some(properties) = value.get_mut("properties").and_then(Value::as_object_mut) {
        properties.entry("apiVersion").or_insert_with(|| json!({"type": "string"}));
        properties.entry("kind").or_insert_with(|| json!({"type": "string"}));
        let meta = format!("{prefix}{}", TypeRef::OBJECT_META.openapi_name());
        properties.insert("metadata".into(), json!({"$ref": meta}));
    }
    value["x-kubernetes-group-version-kind"] = json!([{"group": row.group, "version": version, "kind": row.kind}]);
    value
}

fn parameters(verb: &str, v3: bool) -> Vec<Value> {
    let mut names = vec![("pretty", "string")];
    if matches!(verb, "post" | "put" | "patch") {
        names.extend([("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")]);
    }
    if verb == "patch" {
        names.push(("force", "boolean"));
    }
    if verb == "delete" {
        names.extend([("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string")]);
    }
    names
        .into_iter()
        .map(|(name, kind)| {
            if v3 {
                json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
            } else {
                json!({"name": name, "in": "query", "type": kind, "uniqueItems": true})
            }
        })
        .collect()
}

fn operation(row: &KindRow, version: &str, method: &str, action: &str, reference: &str, v3: bool) -> Value {
    let kind = json!({"group": row.group, "version": version, "kind": row.kind});
    let schema = json!({"$ref": reference});
    let content = |schema: &Value| json!({"application/json": {"schema": schema}});
    let mut value = json!({
        "parameters": parameters(method, v3),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind,
    });
    if v3 {
        value["responses"] = json!({"200": {"description": "OK", "content": content(&schema)}});
        if matches!(method, "post" | "put") {
            value["requestBody"] = json!({"content": {"*/*": {"schema": schema}}, "required": true});
        }
        if method == "patch" {
            let patch = json!({"schema": {"type": "object"}});
            value["requestBody"] = json!({"content": {
                "application/apply-patch+yaml": patch, "application/json-patch+json": patch,
                "application/merge-patch+json": patch, "application/strategic-merge-patch+json": patch,
            }, "required": true});
        }
    } else {
        value["responses"] = json!({"200": {"description": "OK", "schema": schema}});
        value["produces"] = json!(["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]);
        value["consumes"] = json!(["*/*"]);
        if let Some(list) = value["parameters"].as_array_mut()
            && matches!(method, "post" | "put" | "patch")
        {
            let body = if method == "patch" { json!({"type": "object"}) } else { schema };
            list.push(json!({"name": "body", "in": "body", "required": true, "schema": body}));
        }
    }
    value
}

/// Paths of a row in a version.
fn paths(row: &KindRow, version: &str, reference: &str, v3: bool, out: &mut Map<String, Value>) {
    let root = if row.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{}/{version}", row.group) };
    let base = if row.namespaced { format!("{root}/namespaces/{{namespace}}/{}", row.plural) } else { format!("{root}/{}", row.plural) };
    let add = |map: &mut Map<String, Value>, verb: Verbs, method: &str, action: &str, has: Verbs| {
        if has.has(verb) {
            map.insert(method.into(), operation(row, version, method, action, reference, v3));
        }
    };
    let mut collection = Map::new();
    add(&mut collection, Verbs::LIST, "get", "list", row.verbs);
    add(&mut collection, Verbs::CREATE, "post", "post", row.verbs);
    add(&mut collection, Verbs::DELETE_COLLECTION, "delete", "deletecollection", row.verbs);
    let mut item = Map::new();
    add(&mut item, Verbs::GET, "get", "get", row.verbs);
    add(&mut item, Verbs::UPDATE, "put", "put", row.verbs);
    add(&mut item, Verbs::PATCH, "patch", "patch", row.verbs);
    add(&mut item, Verbs::DELETE, "delete", "delete", row.verbs);
    for (path, map) in [(base.clone(), collection), (format!("{base}/{{name}}"), item)] {
        if !map.is_empty() {
            out.insert(path, map.into());
        }
    }
    for sub in &row.subresources {
        let mut map = Map::new();
        add(&mut map, Verbs::GET, "get", "get", sub.verbs);
        add(&mut map, Verbs::CREATE, "post", "post", sub.verbs);
        add(&mut map, Verbs::UPDATE, "put", "put", sub.verbs);
        add(&mut map, Verbs::PATCH, "patch", "patch", sub.verbs);
        if !map.is_empty() {
            out.insert(format!("{base}/{{name}}/{}", sub.name), map.into());
        }
    }
}

/// One group version's document.
fn collect(
    rows: &[Arc<KindRow>],
    group: &str,
    version: &str,
    prefix: &str,
    v3: bool,
) -> (Vec<TypeRef>, Map<String, Value>, Map<String, Value>) {
    let (mut roots, mut custom, mut all) = (vec![TypeRef::OBJECT_META], Map::new(), Map::new());
    for row in rows.iter().filter(|r| r.group == group && r.versions.iter().any(|v| v == version)) {
        let gvk = row.gvk(version);
        let name = match (&row.custom, schema::type_by_gvk(&gvk)) {
            (None, Some(t)) => {
                roots.push(t);
                roots.extend(schema::type_by_gvk(&meta::GroupVersionKind { kind: row.list_kind.clone(), ..gvk.clone() }));
                t.openapi_name()
            }
            (Some(_), _) => {
                let name = custom_name(row, version);
                custom.insert(name.clone(), custom_schema(row, version, prefix));
                name
            }
            (None, None) => continue,
        };
        paths(row, version, &format!("{prefix}{name}"), v3, &mut all);
    }
    (roots, custom, all)
}

/// OpenAPI v3 of one group version.
pub(crate) fn v3(rows: &[Arc<KindRow>], group: &str, version: &str) -> Value {
    let prefix = "#/components/schemas/";
    let (roots, custom, paths) = collect(rows, group, version, prefix, true);
    let mut schemas = definitions(roots, prefix);
    schemas.extend(custom);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": crate::discovery::VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// OpenAPI v2 of everything.
pub(crate) fn v2(rows: &[Arc<KindRow>], versions: &[(String, String, String)]) -> Value {
    let prefix = "#/definitions/";
    let (mut roots, mut schemas, mut all) = (Vec::new(), Map::new(), Map::new());
    let mut seen = BTreeSet::new();
    for (_, group, version) in versions {
        let (more, custom, paths) = collect(rows, group, version, prefix, false);
        roots.extend(more.into_iter().filter(|t| seen.insert(t.openapi_name())));
        schemas.extend(custom);
        all.extend(paths);
    }
    schemas.extend(definitions(roots, prefix));
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": crate::discovery::VERSION},
        "paths": all,
        "definitions": schemas,
    })
}
