//! How a custom resource's fields merge, read from its structural schema.

use std::sync::Arc;

use managedfields::{Atom, ListKind, MapKind, ScalarKind, Shape, TypeShape};
use serde_json::Value;

/// A node of a structural schema.
#[derive(Debug)]
struct Node {
    root: Arc<Value>,
    /// JSON pointer of this node.
    at: String,
    /// Whether it is an object with `apiVersion`, `kind` and `metadata` of its own.
    embedded: bool,
}

/// The shape of a schema's root.
pub(crate) fn shape(schema: Arc<Value>) -> Shape {
    Shape::Custom(Arc::new(Node { root: schema, at: String::new(), embedded: true }))
}

impl Node {
    fn node(&self) -> &Value {
        self.root.pointer(&self.at).unwrap_or(&Value::Null)
    }

    fn text(&self, key: &str) -> &str {
        self.node().get(key).and_then(Value::as_str).unwrap_or("")
    }

    fn flag(&self, key: &str) -> bool {
        self.node().get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn child(&self, at: String) -> Option<Shape> {
        let found = self.root.pointer(&at)?;
        if !found.is_object() {
            return Some(Shape::Deduced);
        }
        let embedded = found.get("x-kubernetes-embedded-resource").and_then(Value::as_bool).unwrap_or(false);
        Some(Shape::Custom(Arc::new(Node { root: self.root.clone(), at, embedded })))
    }
}

impl TypeShape for Node {
    fn atom(&self) -> Atom {
        let mut atom = Atom { scalar: None, list: None, map: None };
        let kind = self.text("type");
        if self.flag("x-kubernetes-int-or-string") {
            atom.scalar = Some(ScalarKind::Untyped);
            return atom;
        }
        match kind {
            "object" => {
                let atomic = self.text("x-kubernetes-map-type") == "atomic";
                atom.map = Some(if atomic { MapKind::Atomic } else { MapKind::Granular });
            }
            "array" => {
                atom.list = Some(match self.text("x-kubernetes-list-type") {
                    "set" => ListKind::Set,
                    "map" => {
                        let keys = self.node().get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                        let keys = keys.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
                        ListKind::Keyed(keys.collect())
                    }
                    _ => ListKind::Atomic,
                });
            }
            "integer" | "number" => atom.scalar = Some(ScalarKind::Numeric),
            "string" => atom.scalar = Some(ScalarKind::String),
            "boolean" => atom.scalar = Some(ScalarKind::Boolean),
            _ => {
                atom = Atom {
                    scalar: Some(ScalarKind::Untyped),
                    list: Some(ListKind::Atomic),
                    map: Some(MapKind::Granular),
                };
            }
        }
        atom
    }

    fn field(&self, name: &str) -> Option<Shape> {
        if self.embedded {
            match name {
                "metadata" => return Some(Shape::Struct(schema::TypeRef::OBJECT_META)),
                "apiVersion" | "kind" => return Some(Shape::Scalar(ScalarKind::String)),
                _ => {}
            }
        }
        let escaped = name.replace('~', "~0").replace('/', "~1");
        self.child(format!("{}/properties/{escaped}", self.at))
    }

    fn element(&self) -> Option<Shape> {
        if self.text("type") == "array" {
            return self.child(format!("{}/items", self.at));
        }
        if self.node().get("additionalProperties").is_some_and(Value::is_object) {
            return self.child(format!("{}/additionalProperties", self.at));
        }
        let open = self.flag("x-kubernetes-preserve-unknown-fields") || self.node().get("properties").is_none();
        open.then_some(Shape::Deduced)
    }
}
