//! The paths that a value sets.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Resolved, element_shape, field_shape, item_element, items, resolve};
use crate::element::PathElement;
use crate::set::Set;
use crate::shape::{ListKind, MapKind, Shape};

/// The set of a value's leaves, list items and atomic parts.
pub(crate) fn to_set(value: &Value, shape: &Shape) -> Set {
    let mut set = Set::new();
    walk(value, shape, &mut Vec::new(), &mut set);
    set
}

fn walk(value: &Value, shape: &Shape, path: &mut Vec<PathElement>, set: &mut Set) {
    match resolve(shape.atom(), Some(value)) {
        Resolved::Scalar | Resolved::List(ListKind::Atomic) | Resolved::Map(MapKind::Atomic) => set.insert(path),
        Resolved::List(kind) => list(value, &kind, shape, path, set),
        Resolved::Map(MapKind::Granular) => {
            for (name, value) in value.as_object().into_iter().flatten() {
                path.push(PathElement::field(name));
                walk(value, &field_shape(shape, name), path, set);
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                // A map's own keys are members; a struct's fields only when nothing is below them.
                if empty || shape.field(name).is_none() {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Resolved::Nothing => {}
    }
}

fn list(value: &Value, kind: &ListKind, shape: &Shape, path: &mut Vec<PathElement>, set: &mut Set) {
    let element = element_shape(shape);
    let mut counts: BTreeMap<PathElement, usize> = BTreeMap::new();
    let steps: Vec<(PathElement, &Value)> =
        items(Some(value)).iter().filter_map(|item| Some((item_element(kind, &element, item).ok()?, item))).collect();
    for (step, _) in &steps {
        *counts.entry(step.clone()).or_default() += 1;
    }
    for (step, item) in steps {
        let single = counts.get(&step) == Some(&1);
        path.push(step);
        if single {
            walk(item, &element, path, set);
        }
        set.insert(path);
        path.pop();
    }
}
