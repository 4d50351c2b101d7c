//! What changed between two values.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

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
    pub fn exclude(mut self, fields: Option<&Set>) -> Self {
        if let Some(fields) = fields.filter(|f| !f.is_empty()) {
            self.removed.exclude(fields);
            self.modified.exclude(fields);
            self.added.exclude(fields);
        }
        self
    }

    fn is_bare(&self) -> bool {
        self.removed.is_bare() && self.modified.is_bare() && self.added.is_bare()
    }

    /// Puts what was found at a step, and below it, under that step.
    fn attach(&mut self, step: PathElement, own: Own, below: Comparison) {
        let parts = [
            (&mut self.removed, own.removed, below.removed),
            (&mut self.modified, own.modified, below.modified),
            (&mut self.added, own.added, below.added),
        ];
        for (set, member, child) in parts {
            if member {
                set.members.insert(step.clone());
            }
            if !child.is_bare() {
                set.children.entry(step.clone()).or_default().absorb(child);
            }
        }
    }
}

/// What happened to a path itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Own {
    removed: bool,
    modified: bool,
    added: bool,
}

const REMOVED: Own = Own { removed: true, modified: false, added: false };
const MODIFIED: Own = Own { removed: false, modified: true, added: false };
const ADDED: Own = Own { removed: false, modified: false, added: true };

impl Own {
    fn and(self, other: Self) -> Self {
        Self {
            removed: self.removed || other.removed,
            modified: self.modified || other.modified,
            added: self.added || other.added,
        }
    }
}

/// Compares two values of a shape.
pub(crate) fn compare(old: &Value, new: &Value, shape: &Shape) -> Comparison {
    let mut found = Comparison::default();
    // The root itself is no path.
    let _ = value(Some(old), Some(new), shape, &mut found);
    found
}

/// Compares what stands at one path: `below` gets the paths below it, the result is about itself.
fn value(old: Option<&Value>, new: Option<&Value>, shape: &Shape, below: &mut Comparison) -> Own {
    let (own, is_leaf) = match (old, new) {
        (None, None) => return Own::default(),
        (Some(_), None) => part(resolve(shape.atom(), old), old, new, shape, below),
        (None, Some(_)) => part(resolve(shape.atom(), new), old, new, shape, below),
        (Some(_), Some(_)) => {
            let (before, after) = (resolve(shape.atom(), old), resolve(shape.atom(), new));
            if same_kind(&before, &after) {
                part(after, old, new, shape, below)
            } else {
                // The form itself changed: the old form's parts go, the new one's come.
                let (first, was_leaf) = part(before, old, new, shape, below);
                let (second, is_leaf) = part(after, old, new, shape, below);
                (first.and(second), was_leaf || is_leaf)
            }
        }
    };
    match (old, new) {
        (None, Some(_)) if !is_leaf => own.and(ADDED),
        (Some(_), None) if !is_leaf => own.and(REMOVED),
        _ => own,
    }
}

/// Compares by one form; gives what happened to the path itself, and whether it was a leaf.
fn part(
    form: Resolved,
    old: Option<&Value>,
    new: Option<&Value>,
    shape: &Shape,
    below: &mut Comparison,
) -> (Own, bool) {
    match form {
        Resolved::Scalar => (leaf(old, new), true),
        Resolved::List(kind) => {
            let (old_list, new_list) = (old.filter(|v| v.is_array()), new.filter(|v| v.is_array()));
            if kind == ListKind::Atomic || is_empty_container(old_list) && is_empty_container(new_list) {
                return (leaf(old, new), true);
            }
            list(&kind, items(old_list), items(new_list), shape, below);
            (Own::default(), false)
        }
        Resolved::Map(kind) => {
            let (old_map, new_map) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let empty = |map: Option<&Map<String, Value>>| map.is_none_or(Map::is_empty);
            if kind == MapKind::Atomic || empty(old_map) && empty(new_map) {
                return (leaf(old, new), true);
            }
            let mut field = |name: &str, before: Option<&Value>, after: Option<&Value>| {
                let mut found = Comparison::default();
                let own = value(before, after, &field_shape(shape, name), &mut found);
                if own != Own::default() || !found.is_bare() {
                    below.attach(PathElement::field(name), own, found);
                }
            };
            // Both are sorted: one walk over them side by side.
            let mut left = old_map.into_iter().flatten().peekable();
            let mut right = new_map.into_iter().flatten().peekable();
            loop {
                let order = match (left.peek(), right.peek()) {
                    (None, None) => break,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some((a, _)), Some((b, _))) => a.cmp(b),
                };
                let before = if order == Ordering::Greater { None } else { left.next() };
                let after = if order == Ordering::Less { None } else { right.next() };
                if let Some((name, _)) = before.or(after) {
                    field(name, before.map(|(_, v)| v), after.map(|(_, v)| v));
                }
            }
            (Own::default(), false)
        }
        Resolved::Nothing => (Own::default(), true),
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Own {
    match (old, new) {
        (None, _) => ADDED,
        (_, None) => REMOVED,
        (Some(a), Some(b)) if !equal(a, b) => MODIFIED,
        _ => Own::default(),
    }
}

fn list(kind: &ListKind, old: &[Value], new: &[Value], shape: &Shape, below: &mut Comparison) {
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
        let mut found = Comparison::default();
        let own = match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => value(old.first().copied(), new.first().copied(), &element, &mut found),
            (2.., 2..) => {
                let same = old.len() == new.len() && old.iter().zip(&new).all(|(a, b)| equal(a, b));
                if same { Own::default() } else { MODIFIED }
            }
            (2.., _) => value(None, new.first().copied(), &element, &mut found).and(REMOVED),
            (_, _) => value(old.first().copied(), None, &element, &mut found).and(ADDED),
        };
        if own != Own::default() || !found.is_bare() {
            below.attach(step, own, found);
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
