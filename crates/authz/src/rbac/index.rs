//! Roles and bindings, indexed by subject.

use std::collections::BTreeMap;
use std::sync::Arc;

use auth_api::{UserInfo, users};
use meta::Object;
use parking_lot::RwLock;
use serde::Deserialize;

use super::rule::{Rule, rules_of};
use crate::feed::Follow;

/// What a binding refers to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleRef {
    /// API group.
    pub api_group: String,
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Name.
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

/// Whom a binding binds, as requests name them: service accounts are users.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    User(String),
    Group(String),
}

/// One binding seen from one of its subjects.
#[derive(Debug, Clone)]
struct Bound {
    binding: String,
    namespace: String,
    role: RoleRef,
    subject: String,
}

impl Bound {
    /// The words of `RBAC: allowed by ...`.
    fn describe(&self) -> String {
        let Self { binding, namespace, role, subject } = self;
        let role = format!("{} {:?}", role.kind, role.name);
        if namespace.is_empty() {
            format!("ClusterRoleBinding {binding:?} of {role} to {subject}")
        } else {
            format!("RoleBinding {:?} of {role} to {subject}", format!("{binding}/{namespace}"))
        }
    }
}

#[derive(Default)]
struct State {
    cluster_roles: BTreeMap<String, Arc<Vec<Rule>>>,
    roles: BTreeMap<(String, String), Arc<Vec<Rule>>>,
    /// By namespace (empty for cluster role bindings) and subject.
    bound: BTreeMap<(String, Key), Vec<Bound>>,
    /// The subjects of each binding, to take it out again.
    subjects: BTreeMap<(String, String), Vec<Key>>,
}

/// The index behind the RBAC authorizer.
#[derive(Default)]
pub struct Index(RwLock<State>);

fn key_of(subject: &Subject, namespace: &str) -> Option<(Key, String)> {
    match subject.kind.as_str() {
        "User" => Some((Key::User(subject.name.clone()), format!("User {:?}", subject.name))),
        "Group" => Some((Key::Group(subject.name.clone()), format!("Group {:?}", subject.name))),
        "ServiceAccount" => {
            let namespace = if subject.namespace.is_empty() { namespace } else { &subject.namespace };
            if namespace.is_empty() {
                return None;
            }
            let user = format!("{}{namespace}:{}", users::SERVICE_ACCOUNT_PREFIX, subject.name);
            Some((Key::User(user), format!("ServiceAccount {:?}", format!("{}/{namespace}", subject.name))))
        }
        _ => None,
    }
}

impl State {
    fn unbind(&mut self, namespace: &str, name: &str) {
        let Some(keys) = self.subjects.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        for key in keys {
            let place = (namespace.to_owned(), key);
            if let Some(list) = self.bound.get_mut(&place) {
                list.retain(|bound| bound.binding != name);
                if list.is_empty() {
                    self.bound.remove(&place);
                }
            }
        }
    }

    fn bind(&mut self, binding: &Object) {
        let (namespace, name) = (binding.namespace(), binding.name());
        self.unbind(namespace, name);
        let take = |field: &str| binding.body.get(field).cloned().unwrap_or_default();
        let role: RoleRef = serde_json::from_value(take("roleRef")).unwrap_or_default();
        let subjects: Option<Vec<Subject>> = serde_json::from_value(take("subjects")).unwrap_or_default();
        let mut keys = Vec::new();
        for (key, words) in subjects.iter().flatten().filter_map(|s| key_of(s, namespace)) {
            let bound =
                Bound { binding: name.to_owned(), namespace: namespace.to_owned(), role: role.clone(), subject: words };
            self.bound.entry((namespace.to_owned(), key.clone())).or_default().push(bound);
            keys.push(key);
        }
        self.subjects.insert((namespace.to_owned(), name.to_owned()), keys);
    }

    fn rules(&self, role: &RoleRef, namespace: &str) -> Result<Arc<Vec<Rule>>, String> {
        let (found, kind) = match role.kind.as_str() {
            "ClusterRole" => (self.cluster_roles.get(&role.name), "clusterrole"),
            "Role" => (self.roles.get(&(namespace.to_owned(), role.name.clone())), "role"),
            other => return Err(format!("unsupported role reference kind: {other:?}")),
        };
        found.cloned().ok_or_else(|| format!("{kind}.rbac.authorization.k8s.io {:?} not found", role.name))
    }

    fn store(&mut self, resource: &str, object: &Object) {
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        match resource {
            "clusterroles" => {
                self.cluster_roles.insert(name, Arc::new(rules_of(object)));
            }
            "roles" => {
                self.roles.insert((namespace, name), Arc::new(rules_of(object)));
            }
            _ => self.bind(object),
        }
    }
}

impl Index {
    /// Calls `visit` with every rule that applies to a user in a namespace and the words for its source, or with the error
    /// of a binding whose role is missing, until it answers false.
    pub fn visit(
        &self,
        user: &UserInfo,
        namespace: &str,
        mut visit: impl FnMut(&dyn Fn() -> String, Result<&Rule, String>) -> bool,
    ) {
        let state = self.0.read();
        let keys: Vec<Key> =
            std::iter::once(Key::User(user.name.clone())).chain(user.groups.iter().cloned().map(Key::Group)).collect();
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            for key in &keys {
                let Some(list) = state.bound.get(&((*scope).to_owned(), key.clone())) else { continue };
                for bound in list {
                    let describe = || bound.describe();
                    match state.rules(&bound.role, scope) {
                        Err(error) => {
                            if !visit(&describe, Err(error)) {
                                return;
                            }
                        }
                        Ok(rules) => {
                            if !rules.iter().all(|rule| visit(&describe, Ok(rule))) {
                                return;
                            }
                        }
                    }
                }
            }
        }
    }

    /// The rules of a role that a binding in a namespace refers to.
    ///
    /// # Errors
    /// The role does not exist, in upstream's words.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Arc<Vec<Rule>>, String> {
        self.0.read().rules(role, namespace)
    }
}

impl Follow for Index {
    fn replace(&self, resource: &'static str, objects: &[Arc<Object>]) {
        let mut state = self.0.write();
        match resource {
            "clusterroles" => state.cluster_roles.clear(),
            "roles" => state.roles.clear(),
            _ => {
                let cluster = resource == "clusterrolebindings";
                state.bound.retain(|(namespace, _), _| namespace.is_empty() != cluster);
                state.subjects.retain(|(namespace, _), _| namespace.is_empty() != cluster);
            }
        }
        for object in objects {
            state.store(resource, object);
        }
    }

    fn upsert(&self, resource: &'static str, object: &Object) {
        self.0.write().store(resource, object);
    }

    fn delete(&self, resource: &'static str, object: &Object) {
        let mut state = self.0.write();
        let (namespace, name) = (object.namespace(), object.name());
        match resource {
            "clusterroles" => drop(state.cluster_roles.remove(name)),
            "roles" => drop(state.roles.remove(&(namespace.to_owned(), name.to_owned()))),
            _ => state.unbind(namespace, name),
        }
    }
}
