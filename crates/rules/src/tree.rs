//! Helpers to write defaults into a tree: each reads as "this field, unless set, is that".

use serde_json::{Map, Value};

/// A JSON object.
pub type Tree = Map<String, Value>;

/// What defaulting code does with a JSON object.
///
/// "Unset" is Go's: absent or `null` for pointers, also the zero value for plain fields; which of the two
/// a field has is the caller's choice of method.
pub trait Defaults {
    /// A string field that is empty or absent becomes `value`.
    fn default_str(&mut self, field: &str, value: &str);
    /// A pointer field that is absent becomes `value`.
    fn default_value(&mut self, field: &str, value: impl Into<Value>);
    /// A number field that is zero or absent becomes `value`.
    fn default_nonzero(&mut self, field: &str, value: i64);
    /// A child object, when it is there.
    fn child(&mut self, field: &str) -> Option<&mut Tree>;
    /// A child object several levels down, when it is there.
    fn descend(&mut self, path: &[&str]) -> Option<&mut Tree>;
    /// A child object, made when it is not there.
    fn make(&mut self, field: &str) -> &mut Tree;
    /// The objects of a list.
    fn each(&mut self, field: &str) -> impl Iterator<Item = &mut Tree>;
    /// A string, empty when absent.
    fn text(&self, field: &str) -> &str;
    /// Whether a non-null value is there.
    fn has(&self, field: &str) -> bool;
    /// Whether the field holds Go's zero value or nothing.
    fn unset(&self, field: &str) -> bool;
}

impl Defaults for Tree {
    fn default_str(&mut self, field: &str, value: &str) {
        if self.text(field).is_empty() {
            self.insert(field.to_owned(), Value::String(value.to_owned()));
        }
    }

    fn default_value(&mut self, field: &str, value: impl Into<Value>) {
        if !self.has(field) {
            self.insert(field.to_owned(), value.into());
        }
    }

    fn default_nonzero(&mut self, field: &str, value: i64) {
        if self.get(field).and_then(Value::as_i64).unwrap_or(0) == 0 {
            self.insert(field.to_owned(), value.into());
        }
    }

    fn child(&mut self, field: &str) -> Option<&mut Tree> {
        self.get_mut(field)?.as_object_mut()
    }

    fn descend(&mut self, path: &[&str]) -> Option<&mut Tree> {
        path.iter().try_fold(self, |tree, step| tree.get_mut(*step)?.as_object_mut())
    }

    fn make(&mut self, field: &str) -> &mut Tree {
        let entry = self.entry(field.to_owned()).or_insert_with(|| Value::Object(Tree::new()));
        if !entry.is_object() {
            *entry = Value::Object(Tree::new());
        }
        match entry {
            Value::Object(tree) => tree,
            _ => unreachable!("made an object above"),
        }
    }

    fn each(&mut self, field: &str) -> impl Iterator<Item = &mut Tree> {
        self.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
    }

    fn text(&self, field: &str) -> &str {
        self.get(field).and_then(Value::as_str).unwrap_or("")
    }

    fn has(&self, field: &str) -> bool {
        self.get(field).is_some_and(|v| !v.is_null())
    }

    fn unset(&self, field: &str) -> bool {
        match self.get(field) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Number(n)) => n.as_i64() == Some(0),
            Some(Value::Bool(b)) => !b,
        }
    }
}
