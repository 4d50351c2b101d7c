//! Whether a value has its shape.

use serde_json::Value;

use super::{Errors, Resolved, element_shape, item_element, resolve};
use crate::element::{PathElement, path_text};
use crate::shape::{ListKind, ScalarKind, Shape};

/// Checks a value; live objects may hold duplicate list items, applied ones may not.
pub(crate) fn validate(value: &Value, shape: &Shape, allow_duplicates: bool) -> Errors {
    let mut errors = Errors::new();
    let mut walk = Validate { errors: &mut errors, path: Vec::new(), allow_duplicates };
    walk.value(value, shape);
    errors
}

struct Validate<'e> {
    errors: &'e mut Errors,
    path: Vec<PathElement>,
    allow_duplicates: bool,
}

impl Validate<'_> {
    fn error(&mut self, message: String) {
        self.errors.push((path_text(&self.path), message));
    }

    fn value(&mut self, value: &Value, shape: &Shape) {
        let atom = shape.atom();
        let scalar = atom.scalar;
        match resolve(atom, Some(value)) {
            Resolved::Scalar => self.scalar(value, scalar.unwrap_or(ScalarKind::Untyped)),
            Resolved::List(kind) => self.list(value, &kind, shape),
            Resolved::Map(_) => self.map(value, shape),
            Resolved::Nothing => self.error("schema error: invalid atom".to_owned()),
        }
    }

    fn scalar(&mut self, value: &Value, kind: ScalarKind) {
        let wanted = match (kind, value) {
            (_, Value::Null)
            | (ScalarKind::Numeric, Value::Number(_))
            | (ScalarKind::String, Value::String(_))
            | (ScalarKind::Boolean, Value::Bool(_))
            | (ScalarKind::Untyped, Value::Number(_) | Value::String(_) | Value::Bool(_)) => return,
            (ScalarKind::Numeric, other) => format!("expected numeric (int or float), got {}", go_type(other)),
            (ScalarKind::String, other) => format!("expected string, got &value.valueUnstructured{{Value:{other}}}"),
            (ScalarKind::Boolean, other) => format!("expected boolean, got {other}"),
            (ScalarKind::Untyped, other) => format!("expected any scalar, got {other}"),
        };
        self.error(wanted);
    }

    fn list(&mut self, value: &Value, kind: &ListKind, shape: &Shape) {
        let items = match value {
            Value::Null => return,
            Value::Array(items) => items,
            other => return self.error(format!("expected list, got {other}")),
        };
        let element = element_shape(shape);
        let mut seen = std::collections::BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let step = match kind {
                ListKind::Atomic => PathElement::Index(index as i64),
                _ => match item_element(kind, &element, item) {
                    Ok(step) => step,
                    Err(message) => {
                        self.error(format!("element {index}: {message}"));
                        return;
                    }
                },
            };
            if !seen.insert(step.clone()) && !self.allow_duplicates {
                self.error(format!("duplicate entries for key {step}"));
            }
            self.path.push(step);
            self.value(item, &element);
            self.path.pop();
        }
    }

    fn map(&mut self, value: &Value, shape: &Shape) {
        let map = match value {
            Value::Null => return,
            Value::Object(map) => map,
            other => return self.error(format!("expected map, got &{{{other}}}")),
        };
        for (name, value) in map {
            self.path.push(PathElement::field(name));
            match shape.field(name).or_else(|| shape.element()) {
                Some(below) => self.value(value, &below),
                None => self.error("field not declared in schema".to_owned()),
            }
            self.path.pop();
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
