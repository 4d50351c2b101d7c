//! Sets of field paths, kept as a tree.

use std::collections::{BTreeMap, BTreeSet};

use crate::element::PathElement;
use crate::shape::Shape;

/// A set of field paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    pub(crate) members: BTreeSet<PathElement>,
    pub(crate) children: BTreeMap<PathElement, Set>,
}

impl Set {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of field paths given as names, as strategies name the fields they reset.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|step| PathElement::field(*step)).collect();
            set.insert(&path);
        }
        set
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    /// Whether it holds nothing at all, not even empty parts.
    pub(crate) fn is_bare(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Adds a path; the empty path cannot be a member.
    pub fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => match self.children.get_mut(first) {
                Some(child) => child.insert(rest),
                None => self.children.entry(first.clone()).or_default().insert(rest),
            },
        }
    }

    /// Takes a path out, and what becomes empty on the way to it.
    pub fn remove(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => drop(self.members.remove(last)),
            [first, rest @ ..] => {
                let Some(child) = self.children.get_mut(first) else { return };
                child.remove(rest);
                if child.is_empty() {
                    self.children.remove(first);
                }
            }
        }
    }

    /// Whether the path itself is a member.
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.has(rest)),
        }
    }

    pub(crate) fn has_element(&self, element: &PathElement) -> bool {
        self.members.contains(element)
    }

    /// What is below a step.
    pub(crate) fn with_prefix(&self, element: &PathElement) -> Option<&Set> {
        self.children.get(element).filter(|child| !child.is_empty())
    }

    /// All paths, each as upstream orders them.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut all = Vec::new();
        self.collect(&mut Vec::new(), &mut all);
        all
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, all: &mut Vec<Vec<PathElement>>) {
        for member in &self.members {
            prefix.push(member.clone());
            all.push(prefix.clone());
            prefix.pop();
        }
        for (element, child) in &self.children {
            prefix.push(element.clone());
            child.collect(prefix, all);
            prefix.pop();
        }
    }

    /// Paths in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let merged = result.children.get(element).map_or_else(|| child.clone(), |mine| mine.union(child));
            result.children.insert(element.clone(), merged);
        }
        result
    }

    /// Adds all paths of another set, which is used up.
    pub fn absorb(&mut self, other: Self) {
        if self.members.is_empty() && self.children.is_empty() {
            *self = other;
            return;
        }
        self.members.extend(other.members);
        for (element, child) in other.children {
            match self.children.get_mut(&element) {
                Some(mine) => mine.absorb(child),
                None => drop(self.children.insert(element, child)),
            }
        }
    }

    /// Paths in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(element, mine)| {
            let both = mine.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self { members, children: children.collect() }
    }

    /// Paths in this and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(element, mine)| {
            let left = other.children.get(element).map_or_else(|| mine.clone(), |theirs| mine.difference(theirs));
            (!left.is_empty()).then(|| (element.clone(), left))
        });
        Self { members, children: children.collect() }
    }

    /// Takes out the other's paths and everything below them.
    pub fn exclude(&mut self, other: &Self) {
        for member in &other.members {
            self.members.remove(member);
            self.children.remove(member);
        }
        for (element, theirs) in &other.children {
            if let Some(mine) = self.children.get_mut(element) {
                mine.exclude(theirs);
                if mine.is_empty() {
                    self.children.remove(element);
                }
            }
        }
    }

    /// Adds the named fields on the way to each path, which sets usually leave out: removing `a.b` can then remove `a`.
    #[must_use]
    pub(crate) fn ensure_named_fields(&self, shape: Option<&Shape>) -> Self {
        let mut members = self.members.clone();
        let mut children = BTreeMap::new();
        for (element, child) in &self.children {
            let mut below = None;
            match (element, shape) {
                (PathElement::Field(name), Some(shape)) if shape.atom().map.is_some() => {
                    if let Some(field) = shape.field(name) {
                        members.insert(element.clone());
                        below = Some(field);
                    } else {
                        below = shape.element();
                    }
                }
                (PathElement::Key(_), Some(shape)) if shape.atom().list.is_some() => below = shape.element(),
                _ => {}
            }
            children.insert(element.clone(), child.ensure_named_fields(below.as_ref()));
        }
        Self { members, children }
    }
}
