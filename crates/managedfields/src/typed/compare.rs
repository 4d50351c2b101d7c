//! What changed between two values.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Resolved, element_shape, equal, field_shape, is_empty_container, item_element, items, resolve};
use crate::element::PathElement;
use crate::set::Set;
use crate::shape::{ListKind, MapKind, Shape};

/// The paths that were removed, modified and added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

impl Comparison {
    /// Leaves out some fields and everything below them.
    pub fn exclude(self, fields: Option<&Set>) -> Self {
        match fields {
            Some(fields) if !fields.is_empty() => Self {
                removed: self.removed.recursive_difference(fields),
                modified: self.modified.recursive_difference(fields),
                added: self.added.recursive_difference(fields),
            },
            _ => self,
        }
    }
}

/// Compares two values of a shape.
pub(crate) fn compare(old: &Value, new: &Value, shape: &Shape) -> Comparison {
    let mut walk = Compare { result: Comparison::default(), path: Vec::new() };
    walk.value(Some(old), Some(new), shape);
    walk.result
}

struct Compare {
    result: Comparison,
    path: Vec<PathElement>,
}

impl Compare {
    fn value(&mut self, old: Option<&Value>, new: Option<&Value>, shape: &Shape) {
        let leaf = match (old, new) {
            (None, None) => return,
            (Some(_), None) => self.part(resolve(shape.atom(), old), old, new, shape),
            (None, Some(_)) => self.part(resolve(shape.atom(), new), old, new, shape),
            (Some(a), Some(b)) => {
                let (ra, rb) = (resolve(shape.atom(), old), resolve(shape.atom(), new));
                if same_kind(&ra, &rb) {
                    self.part(rb, old, new, shape)
                } else {
                    // The form itself changed: the old form's parts go, the new one's come.
                    let _ = (a, b);
                    let first = self.part(ra, old, new, shape);
                    self.part(rb, old, new, shape) || first
                }
            }
        };
        if !leaf {
            match (old, new) {
                (None, Some(_)) => self.result.added.insert(&self.path),
                (Some(_), None) => self.result.removed.insert(&self.path),
                _ => {}
            }
        }
    }

    /// Compares by one form; gives whether it was a leaf.
    fn part(&mut self, form: Resolved, old: Option<&Value>, new: Option<&Value>, shape: &Shape) -> bool {
        match form {
            Resolved::Scalar => self.leaf(old, new),
            Resolved::List(kind) => {
                let (old_list, new_list) = (old.filter(|v| v.is_array()), new.filter(|v| v.is_array()));
                if kind == ListKind::Atomic || is_empty_container(old_list) && is_empty_container(new_list) {
                    return self.leaf(old, new);
                }
                self.list(&kind, items(old_list), items(new_list), shape);
                false
            }
            Resolved::Map(kind) => {
                let (old_map, new_map) = (old.filter(|v| v.is_object()), new.filter(|v| v.is_object()));
                if kind == MapKind::Atomic || is_empty_container(old_map) && is_empty_container(new_map) {
                    return self.leaf(old, new);
                }
                let mut names: Vec<&String> =
                    old_map.and_then(Value::as_object).into_iter().flat_map(|m| m.keys()).collect();
                names.extend(new_map.and_then(Value::as_object).into_iter().flat_map(|m| m.keys()));
                names.sort_unstable();
                names.dedup();
                for name in names {
                    self.path.push(PathElement::field(name));
                    let (a, b) = (old_map.and_then(|m| m.get(name)), new_map.and_then(|m| m.get(name)));
                    self.value(a, b, &field_shape(shape, name));
                    self.path.pop();
                }
                false
            }
            Resolved::Nothing => true,
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) -> bool {
        match (old, new) {
            (None, _) => self.result.added.insert(&self.path),
            (_, None) => self.result.removed.insert(&self.path),
            (Some(a), Some(b)) if !equal(a, b) => self.result.modified.insert(&self.path),
            _ => {}
        }
        true
    }

    fn list(&mut self, kind: &ListKind, old: &[Value], new: &[Value], shape: &Shape) {
        let element = element_shape(shape);
        let mut groups: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old {
            if let Ok(step) = item_element(kind, &element, item) {
                groups.entry(step).or_default().0.push(item);
            }
        }
        for item in new {
            if let Ok(step) = item_element(kind, &element, item) {
                groups.entry(step).or_default().1.push(item);
            }
        }
        for (step, (old, new)) in groups {
            self.path.push(step);
            match (old.len(), new.len()) {
                (0 | 1, 0 | 1) => self.value(old.first().copied(), new.first().copied(), &element),
                (2.., 2..) => {
                    let same = old.len() == new.len() && old.iter().zip(&new).all(|(a, b)| equal(a, b));
                    if !same {
                        self.result.modified.insert(&self.path);
                    }
                }
                (2.., _) => {
                    self.value(None, new.first().copied(), &element);
                    self.result.removed.insert(&self.path);
                }
                (_, _) => {
                    self.value(old.first().copied(), None, &element);
                    self.result.added.insert(&self.path);
                }
            }
            self.path.pop();
        }
    }
}

fn same_kind(a: &Resolved, b: &Resolved) -> bool {
    matches!(
        (a, b),
        (Resolved::Scalar, Resolved::Scalar)
            | (Resolved::List(_), Resolved::List(_))
            | (Resolved::Map(_), Resolved::Map(_))
            | (Resolved::Nothing, Resolved::Nothing)
    )
}
