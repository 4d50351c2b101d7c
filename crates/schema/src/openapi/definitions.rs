//! Definitions of the table's structs and scalars, in v3 form.

use std::collections::BTreeSet;

use meta::GroupVersion;
use serde_json::{Map, Value, json};

use super::Describe;
use crate::table::{Card, Elem, Field, ListType, TypeRef};

pub(super) const META_PACKAGE: &str = "apimachinery/pkg/apis/meta/v1";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// Every definition that the roots reach, with the scalars they use.
pub(super) fn all(
    roots: &BTreeSet<TypeRef>,
    describe: Describe<'_>,
    served: &BTreeSet<GroupVersion>,
) -> Map<String, Value> {
    let mut schemas = Map::new();
    let mut scalars: BTreeSet<String> = BTreeSet::from([PATCH.to_owned(), RAW_EXTENSION.to_owned()]);
    for t in reachable(roots) {
        for field in t.json_fields() {
            scalars.extend(scalar_name(field.elem()));
        }
        let mut schema = definition(t, describe);
        if matches!(t.name(), "DeleteOptions" | "WatchEvent") && t.package() == META_PACKAGE {
            schema["x-kubernetes-group-version-kind"] = everywhere(t, served);
        }
        schemas.insert(t.openapi_name(), schema);
    }
    for name in scalars {
        let mut schema = scalar_schema(&name);
        describe_with(&mut schema, describe, &name, "");
        schemas.insert(name, schema);
    }
    schemas
}

/// All structs that the roots reach, the roots included.
pub fn reachable(roots: &BTreeSet<TypeRef>) -> BTreeSet<TypeRef> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<TypeRef> = roots.iter().copied().collect();
    while let Some(t) = open.pop() {
        if seen.insert(t) {
            open.extend(t.json_fields().into_iter().filter_map(referenced));
        }
    }
    seen
}

fn referenced(field: &Field) -> Option<TypeRef> {
    match field.elem() {
        Elem::Struct(id) | Elem::PropsOrArray(id) | Elem::PropsOrBool(id) | Elem::PropsOrStrings(id) => {
            Some(TypeRef(id))
        }
        _ => None,
    }
}

/// Upstream registers these kinds in every group version.
fn everywhere(t: TypeRef, served: &BTreeSet<GroupVersion>) -> Value {
    let core = GroupVersion::new("", "v1");
    let mut all: BTreeSet<&GroupVersion> = served.iter().collect();
    all.insert(&core);
    all.into_iter().map(|gv| json!({"group": gv.group, "kind": t.name(), "version": gv.version})).collect()
}

/// The definition of a struct.
pub fn definition(t: TypeRef, describe: Describe<'_>) -> Value {
    let name = t.openapi_name();
    let mut properties = Map::new();
    let mut required = Vec::new();
    if t.is_kind() {
        for field in ["apiVersion", "kind"] {
            let mut schema = json!({"type": "string"});
            describe_with(&mut schema, describe, &name, field);
            properties.insert(field.to_owned(), schema);
        }
    }
    for field in t.json_fields() {
        let mut schema = property(field);
        describe_with(&mut schema, describe, &name, field.name());
        properties.insert(field.name().to_owned(), schema);
        if field.is_required() {
            required.push(field.name());
        }
    }
    let mut schema = json!({"type": "object"});
    describe_with(&mut schema, describe, &name, "");
    if !properties.is_empty() {
        schema["properties"] = properties.into();
    }
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if t.is_atomic() {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    let gvks: Vec<Value> = t
        .gvks()
        .filter(|gvk| gvk.group != "meta.k8s.io")
        .map(|gvk| json!({"group": gvk.group, "kind": gvk.kind, "version": gvk.version}))
        .collect();
    if !gvks.is_empty() {
        schema["x-kubernetes-group-version-kind"] = gvks.into();
    }
    if let Some(unions) = t.unions().and_then(|text| serde_json::from_str(text).ok()) {
        schema["x-kubernetes-unions"] = unions;
    }
    schema
}

fn describe_with(schema: &mut Value, describe: Describe<'_>, definition: &str, field: &str) {
    if let Some(text) = describe(definition, field) {
        schema["description"] = text.into();
    }
}

fn property(field: &Field) -> Value {
    let mut schema = match field.card() {
        Card::One => single(field.elem()),
        Card::List => json!({"type": "array", "items": element(field.elem())}),
        Card::Map => json!({"type": "object", "additionalProperties": element(field.elem())}),
        Card::MapOfLists => {
            json!({"type": "object", "additionalProperties": {"type": "array", "items": element(field.elem())}})
        }
    };
    let (list, map) = ("x-kubernetes-list-type", "x-kubernetes-map-type");
    match (field.list_type(), field.card() == Card::List || matches!(field.elem(), Elem::StringList | Elem::Bytes)) {
        (ListType::Unset, _) => {}
        (ListType::Atomic, true) => schema[list] = "atomic".into(),
        (ListType::Atomic, false) => schema[map] = "atomic".into(),
        (ListType::Granular, _) => schema[map] = "granular".into(),
        (ListType::Set, _) => schema[list] = "set".into(),
        (ListType::Map, _) => {
            schema[list] = "map".into();
            schema["x-kubernetes-list-map-keys"] = field.list_keys().to_vec().into();
        }
    }
    if !field.patch_strategies().is_empty() {
        schema["x-kubernetes-patch-strategy"] = field.patch_strategies().join(",").into();
    }
    if !field.patch_merge_key().is_empty() {
        schema["x-kubernetes-patch-merge-key"] = field.patch_merge_key().into();
    }
    if let Some(default) = field.default().and_then(|text| serde_json::from_str(text).ok()) {
        schema["default"] = default;
    }
    schema
}

/// A reference with room for siblings.
fn single(elem: Elem) -> Value {
    let schema = element(elem);
    match schema.get("$ref") {
        Some(_) => json!({"allOf": [schema]}),
        None => schema,
    }
}

fn element(elem: Elem) -> Value {
    let name = match elem {
        Elem::String => return json!({"type": "string"}),
        Elem::Bytes => return json!({"type": "string", "format": "byte"}),
        Elem::Bool => return json!({"type": "boolean"}),
        Elem::I32 | Elem::U32 => return json!({"type": "integer", "format": "int32"}),
        Elem::I64 | Elem::U64 => return json!({"type": "integer", "format": "int64"}),
        Elem::F64 => return json!({"type": "number", "format": "double"}),
        Elem::StringList => return json!({"type": "array", "items": {"type": "string"}}),
        Elem::Any => return json!({"type": "object"}),
        Elem::Struct(id) => TypeRef(id).openapi_name(),
        other => scalar_name(other).unwrap_or_default(),
    };
    reference(&name)
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn scalar_name(elem: Elem) -> Option<String> {
    Some(match elem {
        Elem::Time => format!("{META}.Time"),
        Elem::MicroTime => format!("{META}.MicroTime"),
        Elem::Duration => format!("{META}.Duration"),
        Elem::FieldsV1 => format!("{META}.FieldsV1"),
        Elem::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(),
        Elem::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(),
        Elem::Raw => RAW_EXTENSION.to_owned(),
        Elem::Json => format!("{EXTENSIONS}.JSON"),
        Elem::PropsOrArray(_) => format!("{EXTENSIONS}.JSONSchemaPropsOrArray"),
        Elem::PropsOrBool(_) => format!("{EXTENSIONS}.JSONSchemaPropsOrBool"),
        Elem::PropsOrStrings(_) => format!("{EXTENSIONS}.JSONSchemaPropsOrStringArray"),
        _ => return None,
    })
}

fn scalar_schema(name: &str) -> Value {
    match name.rsplit('.').next().unwrap_or_default() {
        "Time" | "MicroTime" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string"}),
        "Quantity" => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        "IntOrString" => json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        "FieldsV1" | "RawExtension" | "Patch" => json!({"type": "object"}),
        _ => json!({}),
    }
}
