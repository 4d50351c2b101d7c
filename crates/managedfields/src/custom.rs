//! Shapes of custom resources, from the schema of their CRD.

use std::sync::{Arc, OnceLock};

use schema::TypeRef;
use serde_json::{Map, Value};

use crate::shape::{Atom, ListKind, MapKind, ScalarKind, Shape, TypeShape};

/// A part of a CRD's `openAPIV3Schema`.
#[derive(Debug)]
struct Custom {
    schema: Map<String, Value>,
    /// The object itself, which carries `apiVersion`, `kind` and `metadata`.
    root: bool,
    /// Made once asked for: most fields of a schema are never applied.
    parts: OnceLock<Parts>,
}

#[derive(Debug)]
struct Parts {
    fields: Map<String, Value>,
    element: Option<Shape>,
}

/// The shape of a custom resource. Without a schema everything is deduced: maps merge by field, lists are atomic.
pub fn custom_shape(open_api_v3_schema: Option<&Value>) -> Shape {
    match open_api_v3_schema {
        Some(Value::Object(schema)) => shape_of(schema, true),
        _ => Shape::Deduced,
    }
}

fn shape_of(schema: &Map<String, Value>, root: bool) -> Shape {
    Shape::Custom(Arc::new(Custom { schema: schema.clone(), root, parts: OnceLock::new() }))
}

fn below(value: Option<&Value>) -> Shape {
    match value {
        Some(Value::Object(schema)) => shape_of(schema, false),
        _ => Shape::Deduced,
    }
}

impl Custom {
    fn text(&self, key: &str) -> &str {
        self.schema.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        self.schema.get(key) == Some(&Value::Bool(true))
    }

    fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| {
            let fields = self.schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
            let element = match (self.text("type"), self.schema.get("additionalProperties")) {
                ("array", _) => Some(below(self.schema.get("items"))),
                (_, Some(Value::Object(schema))) => Some(shape_of(schema, false)),
                (_, Some(Value::Bool(true))) => Some(Shape::Deduced),
                _ if self.flag("x-kubernetes-preserve-unknown-fields") || self.text("type").is_empty() => {
                    Some(Shape::Deduced)
                }
                // An object of which nothing is said is open, too.
                _ if self.text("type") == "object" && fields.is_empty() && !self.root => Some(Shape::Deduced),
                _ => None,
            };
            Parts { fields, element }
        })
    }
}

impl TypeShape for Custom {
    fn atom(&self) -> Atom {
        let scalar = |kind| Atom { scalar: Some(kind), ..Atom::default() };
        if self.flag("x-kubernetes-int-or-string") {
            return scalar(ScalarKind::Untyped);
        }
        match self.text("type") {
            "string" => scalar(ScalarKind::String),
            "boolean" => scalar(ScalarKind::Boolean),
            "integer" | "number" => scalar(ScalarKind::Numeric),
            "array" => {
                let keys = self.schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let kind = match self.text("x-kubernetes-list-type") {
                    "map" => {
                        let keys = keys.into_iter().flatten().filter_map(|k| k.as_str().map(str::to_owned));
                        ListKind::Keyed(keys.collect())
                    }
                    "set" => ListKind::Set,
                    _ => ListKind::Atomic,
                };
                Atom { list: Some(kind), ..Atom::default() }
            }
            "object" => {
                let atomic = self.text("x-kubernetes-map-type") == "atomic";
                let kind = if atomic { MapKind::Atomic } else { MapKind::Granular };
                Atom { map: Some(kind), ..Atom::default() }
            }
            _ => Shape::Deduced.atom(),
        }
    }

    fn field(&self, name: &str) -> Option<Shape> {
        if self.root || self.flag("x-kubernetes-embedded-resource") {
            match name {
                "apiVersion" | "kind" => return Some(Shape::Scalar(ScalarKind::String)),
                "metadata" => return Some(Shape::Struct(TypeRef::OBJECT_META)),
                _ => {}
            }
        }
        self.parts().fields.get(name).map(|schema| below(Some(schema)))
    }

    fn element(&self) -> Option<Shape> {
        self.parts().element.clone()
    }

    fn default_of(&self, field: &str) -> Option<Value> {
        self.parts().fields.get(field)?.get("default").cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::element::path_text;
    use crate::typed::{merge, to_set, validate};

    #[test]
    fn merges_by_the_crds_schema() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {
                    "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "name": {"type": "string"}}}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "string"}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
        }}}});
        let shape = custom_shape(Some(&schema));
        let live =
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "name": "a"}], "tags": ["x"], "list": ["1"]}});
        let config = json!({"metadata": {"labels": {"l": "v"}}, "spec": {"ports": [{"port": 80, "name": "b"}, {"port": 81}],
            "tags": ["y"], "list": ["2"], "open": {"any": {"thing": 1}}}});
        assert!(validate(&config, &shape, false).is_empty());
        let merged = merge(&live, &config, &shape).expect("merge");
        assert_eq!(merged["spec"]["ports"], json!([{"port": 80, "protocol": "TCP", "name": "b"}, {"port": 81}]));
        assert_eq!((&merged["spec"]["tags"], &merged["spec"]["list"]), (&json!(["x", "y"]), &json!(["2"])));
        let paths: Vec<String> = to_set(&config, &shape).paths().iter().map(|p| path_text(p)).collect();
        assert!(paths.contains(&".spec.ports[port=81,protocol=\"TCP\"].port".to_owned()), "{paths:?}");
        assert!(paths.contains(&".spec.open.any.thing".to_owned()), "{paths:?}");
        let unknown = validate(&json!({"spec": {"nope": 1}}), &shape, false);
        assert_eq!(unknown, [(".spec.nope".to_owned(), "field not declared in schema".to_owned())]);
    }
}
