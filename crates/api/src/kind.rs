//! What every typed kind can do.

use std::any::TypeId;
use std::collections::BTreeMap;

use k8s_openapi::{Metadata, NamespaceResourceScope};
use meta::{GroupVersionKind, GroupVersionResource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Coded;
use crate::metav1::{ObjectMeta, OwnerReference};

/// A typed built-in kind with `ObjectMeta`, joined to its names.
pub trait Kind:
    Metadata<Ty = ObjectMeta, Scope: 'static> + Coded + Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
    /// Group, version and kind.
    fn gvk() -> GroupVersionKind {
        GroupVersionKind::new(Self::GROUP, Self::VERSION, Self::KIND)
    }

    /// Group, version and resource.
    fn gvr() -> GroupVersionResource {
        GroupVersionResource::new(Self::GROUP, Self::VERSION, Self::URL_PATH_SEGMENT)
    }

    /// Whether objects live in a namespace.
    fn namespaced() -> bool {
        TypeId::of::<Self::Scope>() == TypeId::of::<NamespaceResourceScope>()
    }

    /// `metadata.name`, empty when absent.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`, empty when absent.
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`, empty when absent.
    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// `metadata.resourceVersion`, empty when absent.
    fn resource_version(&self) -> &str {
        self.metadata().resource_version.as_deref().unwrap_or_default()
    }

    /// `namespace/name`, or the name alone.
    fn key(&self) -> String {
        if self.namespace().is_empty() {
            self.name().to_owned()
        } else {
            format!("{}/{}", self.namespace(), self.name())
        }
    }

    /// Whether deletion has begun.
    fn is_deleting(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }

    /// One label.
    fn label(&self, key: &str) -> Option<&str> {
        self.metadata().labels.as_ref()?.get(key).map(String::as_str)
    }

    /// All labels.
    fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.metadata().labels.as_ref().unwrap_or(&NONE)
    }

    /// One annotation.
    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The owner that manages this object.
    fn controller_ref(&self) -> Option<&OwnerReference> {
        self.metadata().owner_references.as_ref()?.iter().find(|r| r.controller == Some(true))
    }
}

impl<T> Kind for T where
    T: Metadata<Ty = ObjectMeta, Scope: 'static> + Coded + Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
}
