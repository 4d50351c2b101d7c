//! An API object as a JSON tree, with a view of its metadata.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{GroupVersion, GroupVersionKind};

/// Any API object: the tree that patches, admission, conversion and validation work on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object {
    /// The whole object, `apiVersion` and `kind` included.
    pub body: Map<String, Value>,
}

/// One entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// The owner's `apiVersion`.
    pub api_version: String,
    /// The owner's kind.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's uid.
    pub uid: String,
    /// Whether this owner manages the object; at most one may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether foreground deletion of the owner waits for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl From<Map<String, Value>> for Object {
    fn from(body: Map<String, Value>) -> Self {
        Self { body }
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Value::Object(object.body)
    }
}

impl Object {
    /// An object of the given kind with nothing else in it.
    pub fn new(gvk: &GroupVersionKind) -> Self {
        let mut object = Self::default();
        object.set_gvk(gvk);
        object
    }

    /// Takes a JSON value; `None` when it is not an object.
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(body) => Some(Self { body }),
            _ => None,
        }
    }

    /// `apiVersion`, empty when absent.
    pub fn api_version(&self) -> &str {
        str_of(self.body.get("apiVersion"))
    }

    /// `kind`, empty when absent.
    pub fn kind(&self) -> &str {
        str_of(self.body.get("kind"))
    }

    /// The kind; a malformed `apiVersion` is taken as the version of the core group.
    pub fn gvk(&self) -> GroupVersionKind {
        let gv: GroupVersion = self.api_version().parse().unwrap_or_else(|_| GroupVersion::new("", self.api_version()));
        gv.with_kind(self.kind())
    }

    /// Sets `apiVersion` and `kind`.
    pub fn set_gvk(&mut self, gvk: &GroupVersionKind) {
        self.body.insert("apiVersion".into(), gvk.api_version().into());
        self.body.insert("kind".into(), gvk.kind.clone().into());
    }

    /// `metadata`, when present.
    pub fn metadata(&self) -> Option<&Map<String, Value>> {
        self.body.get("metadata")?.as_object()
    }

    /// `metadata`, created (or replaced, when it is no object) as needed.
    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        object_entry(&mut self.body, "metadata")
    }

    /// `spec`, created as needed.
    pub fn spec_mut(&mut self) -> &mut Map<String, Value> {
        object_entry(&mut self.body, "spec")
    }

    /// `status`, created as needed.
    pub fn status_mut(&mut self) -> &mut Map<String, Value> {
        object_entry(&mut self.body, "status")
    }

    /// A string of `metadata`, empty when absent.
    pub fn meta_str(&self, field: &str) -> &str {
        str_of(self.metadata().and_then(|m| m.get(field)))
    }

    /// Sets a string of `metadata`; an empty string removes the field.
    pub fn set_meta_str(&mut self, field: &str, value: &str) {
        if value.is_empty() {
            self.metadata_mut().remove(field);
        } else {
            self.metadata_mut().insert(field.into(), value.into());
        }
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.meta_str("name")
    }

    /// `metadata.namespace`, empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.meta_str("namespace")
    }

    /// `metadata.generateName`.
    pub fn generate_name(&self) -> &str {
        self.meta_str("generateName")
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.meta_str("uid")
    }

    /// `metadata.resourceVersion`.
    pub fn resource_version(&self) -> &str {
        self.meta_str("resourceVersion")
    }

    /// `metadata.generation`, 0 when absent.
    pub fn generation(&self) -> i64 {
        self.metadata().and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or(0)
    }

    /// Sets `metadata.generation`.
    pub fn set_generation(&mut self, generation: i64) {
        self.metadata_mut().insert("generation".into(), generation.into());
    }

    /// `metadata.deletionTimestamp`, when set.
    pub fn deletion_timestamp(&self) -> Option<&str> {
        self.metadata()?.get("deletionTimestamp")?.as_str().filter(|t| !t.is_empty())
    }

    /// `metadata.deletionGracePeriodSeconds`, when set.
    pub fn deletion_grace_period_seconds(&self) -> Option<i64> {
        self.metadata()?.get("deletionGracePeriodSeconds")?.as_i64()
    }

    /// `metadata.labels` as string pairs; values that are no strings are left out.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.string_map("labels")
    }

    /// One label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata()?.get("labels")?.get(key)?.as_str()
    }

    /// `metadata.annotations` as string pairs.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.string_map("annotations")
    }

    /// One annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata()?.get("annotations")?.get(key)?.as_str()
    }

    /// Sets an annotation.
    pub fn set_annotation(&mut self, key: &str, value: &str) {
        object_entry(self.metadata_mut(), "annotations").insert(key.into(), value.into());
    }

    /// Sets a label.
    pub fn set_label(&mut self, key: &str, value: &str) {
        object_entry(self.metadata_mut(), "labels").insert(key.into(), value.into());
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> Vec<&str> {
        let list = self.metadata().and_then(|m| m.get("finalizers")).and_then(Value::as_array);
        list.map(|l| l.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// Sets `metadata.finalizers`; an empty list removes the field.
    pub fn set_finalizers(&mut self, finalizers: Vec<String>) {
        if finalizers.is_empty() {
            self.metadata_mut().remove("finalizers");
        } else {
            self.metadata_mut().insert("finalizers".into(), finalizers.into());
        }
    }

    /// `metadata.ownerReferences`; entries that do not parse are left out.
    pub fn owner_references(&self) -> Vec<OwnerReference> {
        let list = self.metadata().and_then(|m| m.get("ownerReferences")).and_then(Value::as_array);
        list.map(|l| l.iter().filter_map(|v| serde_json::from_value(v.clone()).ok()).collect()).unwrap_or_default()
    }

    /// A value by path, such as `&["spec", "nodeName"]`.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.body.get(*first)?, |value, step| value.get(*step))
    }

    /// A string by path, empty when absent.
    pub fn get_str(&self, path: &[&str]) -> &str {
        str_of(self.get(path))
    }

    /// An integer by path.
    pub fn get_i64(&self, path: &[&str]) -> Option<i64> {
        self.get(path)?.as_i64()
    }

    /// A boolean by path.
    pub fn get_bool(&self, path: &[&str]) -> Option<bool> {
        self.get(path)?.as_bool()
    }

    /// Sets a value by path, making the objects on the way.
    pub fn set(&mut self, path: &[&str], value: Value) {
        if let Some((last, parents)) = path.split_last() {
            let parent = parents.iter().fold(&mut self.body, |map, step| object_entry(map, step));
            parent.insert((*last).into(), value);
        }
    }

    /// Removes a value by path and returns it.
    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let mut map = &mut self.body;
        for step in parents {
            map = map.get_mut(*step)?.as_object_mut()?;
        }
        map.remove(*last)
    }

    fn string_map(&self, field: &str) -> impl Iterator<Item = (&str, &str)> {
        let map = self.metadata().and_then(|m| m.get(field)).and_then(Value::as_object);
        map.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
    }

    /// Labels as an owned map.
    pub fn label_map(&self) -> BTreeMap<String, String> {
        self.labels().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }
}

fn str_of(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or("")
}

fn object_entry<'a>(map: &'a mut Map<String, Value>, field: &str) -> &'a mut Map<String, Value> {
    let entry = map.entry(field.to_owned()).or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    match entry {
        Value::Object(inner) => inner,
        _ => unreachable!("made an object above"),
    }
}
