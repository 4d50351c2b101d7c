//! The graph of owners and dependents; pure.

use meta::OwnerReference;
use rt::{HashMap, HashSet};

use super::{FOREGROUND, ORPHAN};

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// What a watch says of an object.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) identity: Identity,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deleting: bool,
    pub(super) finalizers: Vec<String>,
}

/// An object in the graph.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) identity: Identity,
    owners: Vec<OwnerReference>,
    pub(super) being_deleted: bool,
    /// It is being deleted and waits for its dependents.
    pub(super) deleting_dependents: bool,
    orphaning: bool,
    dependents: HashSet<String>,
}

/// What is to be looked at next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Follow {
    /// Whether this one is to be deleted.
    Delete(String),
    /// This one's dependents are to be orphaned.
    Orphan(String),
}

/// See the module. An owner that no watch has shown yet is in it as *virtual*: it is looked at until it is seen or
/// found absent.
#[derive(Debug, Default)]
pub(super) struct Graph {
    items: HashMap<String, Item>,
    virtual_items: HashSet<String>,
}

impl Graph {
    pub(super) fn item(&self, uid: &str) -> Option<Item> {
        self.items.get(uid).cloned()
    }

    /// Whether the object is known only as an owner: no watch has shown it.
    pub(super) fn is_virtual(&self, uid: &str) -> bool {
        self.virtual_items.contains(uid)
    }

    pub(super) fn has_dependents(&self, uid: &str) -> bool {
        self.items.get(uid).is_some_and(|item| !item.dependents.is_empty())
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Item> {
        let dependents = self.items.get(uid).map(|item| &item.dependents);
        dependents.into_iter().flatten().filter_map(|uid| self.items.get(uid).cloned()).collect()
    }

    /// The dependents that the owner must wait for, with whether they wait for their own.
    pub(super) fn blocking_dependents(&self, uid: &str) -> Vec<(String, bool)> {
        let blocks = |item: &Item| item.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true));
        let dependents = self.dependents(uid).into_iter().filter(blocks);
        dependents.map(|item| (item.identity.uid, item.deleting_dependents)).collect()
    }

    /// The uids of one resource, to find what vanished while a watch was down.
    pub(super) fn uids_of(&self, api_version: &str, kind: &str) -> HashSet<String> {
        let of_kind = |item: &&Item| item.identity.api_version == api_version && item.identity.kind == kind;
        let seen = self.items.values().filter(of_kind).map(|item| item.identity.uid.clone());
        seen.filter(|uid| !self.virtual_items.contains(uid)).collect()
    }

    /// Takes in what a watch says.
    pub(super) fn upsert(&mut self, seen: Observed) -> Vec<Follow> {
        let uid = seen.identity.uid.clone();
        let has = |name: &str| seen.finalizers.iter().any(|f| f == name);
        let (deleting_dependents, orphaning) = (seen.deleting && has(FOREGROUND), seen.deleting && has(ORPHAN));
        self.virtual_items.remove(&uid);
        let old = self.items.remove(&uid);
        let (old_owners, was_foreground, was_orphaning, dependents, was_there) = match old {
            Some(old) => (old.owners, old.deleting_dependents, old.orphaning, old.dependents, true),
            None => (Vec::new(), false, false, HashSet::default(), false),
        };
        let mut follows = Vec::new();
        for gone in old_owners.iter().filter(|o| !seen.owners.iter().any(|n| n.uid == o.uid)) {
            self.unlink(&gone.uid, &uid, &mut follows);
        }
        let unblocked = old_owners.iter().filter(|o| {
            o.block_owner_deletion == Some(true)
                && seen.owners.iter().any(|n| n.uid == o.uid && n.block_owner_deletion != Some(true))
        });
        follows.extend(unblocked.map(|o| Follow::Delete(o.uid.clone())));
        let relinked = seen.owners.len() != old_owners.len() || !was_there;
        for owner in &seen.owners {
            self.link(owner, &seen.identity, &mut follows);
        }
        if relinked && !seen.owners.is_empty() && was_there {
            follows.push(Follow::Delete(uid.clone()));
        }
        if orphaning && !was_orphaning {
            follows.push(Follow::Orphan(uid.clone()));
        }
        if deleting_dependents && !was_foreground {
            follows.extend(dependents.iter().map(|d| Follow::Delete(d.clone())));
            follows.push(Follow::Delete(uid.clone()));
        }
        let item = Item {
            identity: seen.identity,
            owners: seen.owners,
            being_deleted: seen.deleting,
            deleting_dependents,
            orphaning,
            dependents,
        };
        self.items.insert(uid, item);
        follows
    }

    fn link(&mut self, owner: &OwnerReference, dependent: &Identity, follows: &mut Vec<Follow>) {
        if let Some(item) = self.items.get_mut(&owner.uid) {
            item.dependents.insert(dependent.uid.clone());
            let other_place = !item.identity.namespace.is_empty() && item.identity.namespace != dependent.namespace;
            if item.deleting_dependents || other_place || item.identity.name != owner.name {
                follows.push(Follow::Delete(dependent.uid.clone()));
            }
            return;
        }
        let identity = Identity {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: dependent.namespace.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        };
        let item = Item {
            identity,
            owners: Vec::new(),
            being_deleted: false,
            deleting_dependents: false,
            orphaning: false,
            dependents: HashSet::from_iter([dependent.uid.clone()]),
        };
        self.virtual_items.insert(owner.uid.clone());
        self.items.insert(owner.uid.clone(), item);
        follows.push(Follow::Delete(owner.uid.clone()));
    }

    fn unlink(&mut self, owner: &str, dependent: &str, follows: &mut Vec<Follow>) {
        let Some(item) = self.items.get_mut(owner) else { return };
        item.dependents.remove(dependent);
        if item.deleting_dependents {
            follows.push(Follow::Delete(owner.to_owned()));
        }
        if item.dependents.is_empty() && self.virtual_items.remove(owner) {
            self.items.remove(owner);
        }
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Follow> {
        let Some(item) = self.items.remove(uid) else { return Vec::new() };
        self.virtual_items.remove(uid);
        let mut follows: Vec<Follow> = item.dependents.iter().map(|d| Follow::Delete(d.clone())).collect();
        for owner in &item.owners {
            self.unlink(&owner.uid, uid, &mut follows);
        }
        follows
    }
}

#[cfg(test)]
mod tests;
