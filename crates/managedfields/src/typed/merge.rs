//! Merging an applied value into the live one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Errors, Resolved, element_shape, field_shape, is_empty_container, item_element, items, resolve};
use crate::element::{PathElement, path_text};
use crate::shape::{ListKind, MapKind, Shape};

/// Merges `config` over `live`: maps by field, associative lists by key in the order that the config asks for.
pub(crate) fn merge(live: &Value, config: &Value, shape: &Shape) -> Result<Value, Errors> {
    let mut walk = Merge { errors: Errors::new(), path: Vec::new() };
    let merged = walk.value(Some(live), Some(config), shape);
    if walk.errors.is_empty() { Ok(merged.unwrap_or(Value::Null)) } else { Err(walk.errors) }
}

struct Merge {
    errors: Errors,
    path: Vec<PathElement>,
}

impl Merge {
    fn value(&mut self, left: Option<&Value>, right: Option<&Value>, shape: &Shape) -> Option<Value> {
        let winner = right.or(left);
        let form = resolve(shape.atom(), winner.filter(|v| !v.is_null()).or(left));
        match form {
            Resolved::List(kind) => {
                let list = |v: Option<&Value>| v.is_none_or(|v| v.is_array() || v.is_null());
                let empty = is_empty_container(left) && is_empty_container(right);
                if kind == ListKind::Atomic || empty || !list(left) || !list(right) {
                    return winner.cloned();
                }
                self.list(&kind, items(left), items(right), shape)
            }
            Resolved::Map(MapKind::Granular) => {
                let map = |v: Option<&Value>| v.is_none_or(|v| v.is_object() || v.is_null());
                let empty = is_empty_container(left) && is_empty_container(right);
                if empty || !map(left) || !map(right) {
                    return winner.cloned();
                }
                self.map(left.and_then(Value::as_object), right.and_then(Value::as_object), shape)
            }
            _ => winner.cloned(),
        }
    }

    fn map(
        &mut self,
        left: Option<&Map<String, Value>>,
        right: Option<&Map<String, Value>>,
        shape: &Shape,
    ) -> Option<Value> {
        let mut out = Map::new();
        let names = left.into_iter().chain(right).flat_map(|m| m.keys());
        for name in names {
            if out.contains_key(name) {
                continue;
            }
            self.path.push(PathElement::field(name));
            let (a, b) = (left.and_then(|m| m.get(name)), right.and_then(|m| m.get(name)));
            if let Some(value) = self.value(a, b, &field_shape(shape, name)) {
                out.insert(name.clone(), value);
            }
            self.path.pop();
        }
        (!out.is_empty()).then_some(Value::Object(out))
    }

    fn index<'v>(
        &mut self,
        kind: &ListKind,
        element: &Shape,
        items: &'v [Value],
        duplicates: bool,
    ) -> (Vec<PathElement>, BTreeMap<PathElement, Option<&'v Value>>) {
        let (mut steps, mut seen) = (Vec::new(), BTreeMap::new());
        for (at, item) in items.iter().enumerate() {
            match item_element(kind, element, item) {
                Err(message) => self.errors.push((path_text(&self.path), format!("element {at}: {message}"))),
                Ok(step) if !seen.contains_key(&step) => {
                    seen.insert(step.clone(), Some(item));
                    steps.push(step);
                }
                Ok(step) if duplicates => {
                    // Duplicates are not merged with the new value.
                    seen.insert(step.clone(), None);
                    steps.push(step);
                }
                Ok(step) => {
                    self.errors.push((path_text(&self.path), format!("duplicate entries for key {step}")));
                }
            }
        }
        (steps, seen)
    }

    /// Keeps the live order where it can, and the config's order among the items it names.
    fn list(&mut self, kind: &ListKind, left: &[Value], right: &[Value], shape: &Shape) -> Option<Value> {
        let element = element_shape(shape);
        let (right_steps, in_right) = self.index(kind, &element, right, false);
        let (left_steps, in_left) = self.index(kind, &element, left, true);
        if !self.errors.is_empty() {
            return None;
        }
        let mut shared = right_steps.iter().filter(|step| in_left.contains_key(*step));
        let mut next_shared = shared.next();
        let mut merged = std::collections::BTreeSet::new();
        let mut out = Vec::new();
        let (mut l, mut r) = (0, 0);
        while l < left_steps.len() || r < right_steps.len() {
            if let (Some(a), Some(b)) = (left_steps.get(l), right_steps.get(r)) {
                if a == b {
                    merged.insert(a.clone());
                    self.item(
                        &mut out,
                        a,
                        in_left.get(a).copied().flatten(),
                        in_right.get(a).copied().flatten(),
                        &element,
                    );
                    l += 1;
                    r += 1;
                    next_shared = shared.next();
                    continue;
                }
                if in_right.contains_key(a) && next_shared.is_some_and(|next| next != a) {
                    // Shared, but its turn comes later.
                    l += 1;
                    continue;
                }
            }
            if let Some(a) = left_steps.get(l) {
                if !in_right.contains_key(a) {
                    self.item(&mut out, a, left.get(l), None, &element);
                    l += 1;
                    continue;
                }
                if merged.contains(a) {
                    l += 1;
                }
            }
            if let Some(b) = right_steps.get(r) {
                merged.insert(b.clone());
                self.item(&mut out, b, in_left.get(b).copied().flatten(), in_right.get(b).copied().flatten(), &element);
                r += 1;
                if next_shared == Some(b) {
                    next_shared = shared.next();
                }
            }
        }
        (!out.is_empty()).then_some(Value::Array(out))
    }

    fn item(
        &mut self,
        out: &mut Vec<Value>,
        step: &PathElement,
        left: Option<&Value>,
        right: Option<&Value>,
        element: &Shape,
    ) {
        self.path.push(step.clone());
        if let Some(value) = self.value(left, right, element) {
            out.push(value);
        }
        self.path.pop();
    }
}
