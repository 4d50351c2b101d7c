//! Who owns what after an update or an apply: structured-merge-diff's updater.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::element::{PathElement, path_text};
use crate::set::Set;
use crate::shape::Shape;
use crate::typed::{Comparison, compare, equal, errors_text, merge, remove_items, to_set};

/// What the updater must know of versions.
pub trait Versions {
    /// The shape of the kind in a version (`apps/v1`); `None` when the version is not known.
    fn shape(&self, api_version: &str) -> Option<Shape>;

    /// The object in another version; `None` when the version is not known any more.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// What one manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub set: Set,
    pub api_version: String,
    pub applied: bool,
}

/// Managers by identifier.
pub(crate) type Managers = BTreeMap<String, Owned>;

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager's identifier.
    pub manager: String,
    /// The field.
    pub path: Vec<PathElement>,
}

impl Conflict {
    /// The field as upstream prints it.
    pub fn path_text(&self) -> String {
        path_text(&self.path)
    }
}

/// What went wrong in an apply.
#[derive(Debug)]
pub(crate) enum UpdateError {
    Conflicts(Vec<Conflict>),
    Merge(String),
    UnknownVersion(String),
}

/// One object, seen in one version.
pub(crate) struct Updater<'a> {
    pub versions: &'a dyn Versions,
    /// The version that the request speaks.
    pub api_version: &'a str,
    /// Fields that the endpoint resets, which nobody comes to own through it.
    pub ignored: Option<&'a Set>,
}

impl Updater<'_> {
    fn shape(&self) -> Result<Shape, UpdateError> {
        let unknown = || UpdateError::UnknownVersion(self.api_version.to_owned());
        self.versions.shape(self.api_version).ok_or_else(unknown)
    }

    /// A value in another version with that version's shape.
    fn at(&self, value: &Value, from: &str, api_version: &str) -> Option<(Value, Shape)> {
        let shape = self.versions.shape(api_version)?;
        let value = if from == api_version { value.clone() } else { self.versions.convert(value, api_version)? };
        Some((value, shape))
    }

    /// Records that `manager` changed `live` to `new`.
    pub fn update(
        &self,
        live: &Value,
        new: &Value,
        managers: Managers,
        manager: &str,
    ) -> Result<Managers, UpdateError> {
        let (mut managers, change) = self.settle(live, new, managers, manager, true)?;
        let mut set = managers.remove(manager).map(|o| o.set.difference(&change.removed)).unwrap_or_default();
        set.absorb(change.modified);
        set.absorb(change.added);
        if let Some(ignored) = self.ignored {
            set.exclude(ignored);
        }
        if !set.is_empty() {
            let api_version = self.api_version.to_owned();
            managers.insert(manager.to_owned(), Owned { set, api_version, applied: false });
        }
        Ok(managers)
    }

    /// Applies `config` as `manager`; `None` when nothing changes in the object.
    pub fn apply(
        &self,
        live: &Value,
        config: &Value,
        mut managers: Managers,
        manager: &str,
        force: bool,
    ) -> Result<(Option<Value>, Managers), UpdateError> {
        let shape = self.shape()?;
        let merged = merge(live, config, &shape)
            .map_err(|e| UpdateError::Merge(format!("failed to merge config: {}", errors_text(&e))))?;
        let last = managers.get(manager).cloned();
        let mut set = to_set(config, &shape);
        if let Some(ignored) = self.ignored {
            set.exclude(ignored);
        }
        let api_version = self.api_version.to_owned();
        managers.insert(manager.to_owned(), Owned { set, api_version, applied: true });
        let pruned = self.prune(merged, &managers, last.as_ref());
        let (managers, _) = self.settle(live, &pruned, managers, manager, force)?;
        let changed = !equal(live, &pruned);
        Ok((changed.then_some(pruned), managers))
    }

    /// Takes changed fields from other managers, or reports them as conflicts.
    fn settle(
        &self,
        live: &Value,
        new: &Value,
        mut managers: Managers,
        manager: &str,
        force: bool,
    ) -> Result<(Managers, Comparison), UpdateError> {
        let change = compare(live, new, &self.shape()?).exclude(self.ignored);
        let others: Vec<String> = managers.keys().filter(|m| *m != manager).cloned().collect();
        if others.is_empty() {
            managers.retain(|_, owned| !owned.set.is_empty());
            return Ok((managers, change));
        }
        let mut by_version = BTreeMap::from([(self.api_version.to_owned(), Taken::by(&change))]);
        let (mut conflicts, mut lost) = (Vec::new(), Vec::new());
        for other in others {
            let Some(owned) = managers.get(&other) else { continue };
            if !by_version.contains_key(&owned.api_version) {
                let version = owned.api_version.clone();
                let (Some((a, shape)), Some((b, _))) =
                    (self.at(live, self.api_version, &version), self.at(new, self.api_version, &version))
                else {
                    // An obsolete version: its entries go.
                    managers.remove(&other);
                    continue;
                };
                by_version.insert(version, Taken::by(&compare(&a, &b, &shape).exclude(self.ignored)));
            }
            let Some(change) = by_version.get(&owned.api_version) else { continue };
            let taken = owned.set.intersection(&change.set);
            if !taken.is_empty() {
                conflicts.push((other.clone(), taken));
            }
            if !change.removed.is_empty() {
                lost.push((other, change.removed.clone()));
            }
        }
        if !force && !conflicts.is_empty() {
            let list = conflicts.into_iter().flat_map(|(manager, set)| {
                set.paths().into_iter().map(move |path| Conflict { manager: manager.clone(), path })
            });
            return Err(UpdateError::Conflicts(list.collect()));
        }
        for (other, set) in conflicts.into_iter().chain(lost) {
            if let Some(owned) = managers.get_mut(&other) {
                owned.set = owned.set.difference(&set);
            }
        }
        managers.retain(|_, owned| !owned.set.is_empty());
        Ok((managers, change))
    }

    /// Removes what the manager applied last time and not this time, unless somebody else owns it.
    fn prune(&self, merged: Value, managers: &Managers, last: Option<&Owned>) -> Value {
        let Some(last) = last.filter(|l| !l.set.is_empty()) else { return merged };
        let Some((base, shape)) = self.at(&merged, self.api_version, &last.api_version) else { return merged };
        let gone = last.set.ensure_named_fields(Some(&shape));
        let pruned = remove_items(&base, &gone, &shape);
        let pruned = self.add_back_owned(&base, pruned, &last.api_version, managers);
        let pruned = add_back_dangling(&base, &pruned, &last.set, &shape);
        match self.at(&pruned, &last.api_version, self.api_version) {
            Some((pruned, _)) => pruned,
            None => merged,
        }
    }

    fn add_back_owned(&self, base: &Value, mut pruned: Value, base_version: &str, managers: &Managers) -> Value {
        let mut by_version: BTreeMap<&str, Set> = BTreeMap::new();
        for owned in managers.values() {
            let entry = by_version.entry(&owned.api_version).or_default();
            *entry = entry.union(&owned.set);
        }
        // The version at hand first: it needs no conversion.
        let mut versions: Vec<&str> = by_version.keys().copied().collect();
        versions.sort_by_key(|v| *v != base_version);
        for version in versions {
            let (Some((merged, shape)), Some((now, _)), Some(owned)) = (
                self.at(base, base_version, version),
                self.at(&pruned, base_version, version),
                by_version.get(version),
            ) else {
                continue;
            };
            let all = to_set(&merged, &shape).ensure_named_fields(Some(&shape));
            let kept = to_set(&now, &shape).ensure_named_fields(Some(&shape));
            let keep = kept.union(&owned.ensure_named_fields(Some(&shape)));
            let result = remove_items(&merged, &all.difference(&keep), &shape);
            if let Some((result, _)) = self.at(&result, version, base_version) {
                pruned = result;
            }
        }
        pruned
    }
}

/// What a change takes from other managers.
struct Taken {
    /// Set by the change.
    set: Set,
    removed: Set,
}

impl Taken {
    fn by(change: &Comparison) -> Self {
        Self { set: change.modified.union(&change.added), removed: change.removed.clone() }
    }
}

/// Puts back items that lost all their fields but that the manager never owned itself.
fn add_back_dangling(base: &Value, pruned: &Value, last: &Set, shape: &Shape) -> Value {
    let all = to_set(base, shape).ensure_named_fields(Some(shape));
    let kept = to_set(pruned, shape).ensure_named_fields(Some(shape));
    let gone = all.difference(&kept).intersection(&last.ensure_named_fields(Some(shape)));
    remove_items(base, &gone, shape)
}
