//! Objects that deciders need: a narrow view of the API server's own storage.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use meta::selector::FieldSelector;
use meta::{GroupVersionResource, Object, Status};

/// What a watch tells.
#[derive(Debug, Clone)]
pub enum ObjectEvent {
    /// All objects there are; comes first, and again after the watch lost its place.
    Replace(Vec<Arc<Object>>),
    /// An object was created or changed.
    Upsert(Arc<Object>),
    /// An object was deleted; its last state.
    Delete(Arc<Object>),
}

/// Reads objects for authenticators, authorizers and admission. Implemented in process over the watch cache; there is no
/// network and no authorization in it.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// One object; `None` when it does not exist. `namespace` is empty for cluster-scoped kinds.
    ///
    /// The answer may come from the watch cache as long as an object that the cache lacks is looked for in the store.
    ///
    /// # Errors
    /// The storage failed.
    async fn get(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status>;

    /// One object as the store has it now, past any cache.
    ///
    /// # Errors
    /// The storage failed.
    async fn get_live(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status>;

    /// All objects of a namespace, or of all namespaces when it is empty.
    ///
    /// # Errors
    /// The storage failed.
    async fn list(&self, resource: &GroupVersionResource, namespace: &str) -> Result<Vec<Arc<Object>>, Status>;

    /// All objects and then every change. The stream ends only when the server does.
    fn watch(&self, resource: &GroupVersionResource) -> BoxStream<'static, ObjectEvent>;

    /// As [`Lookup::watch`], of the objects that a field selector takes: one that is taken no longer is told as deleted. What
    /// it leaves out may still be told where selecting costs more than telling.
    fn watch_where(&self, resource: &GroupVersionResource, _fields: FieldSelector) -> BoxStream<'static, ObjectEvent> {
        self.watch(resource)
    }
}

/// Writes objects as the API server itself (`system:apiserver`), admission included.
#[async_trait]
pub trait Edit: Lookup {
    /// Creates an object.
    ///
    /// # Errors
    /// As the API answers.
    async fn create(&self, resource: &GroupVersionResource, object: Object) -> Result<Object, Status>;

    /// Replaces an object; its resourceVersion must be current when it is set.
    ///
    /// # Errors
    /// As the API answers.
    async fn update(&self, resource: &GroupVersionResource, object: Object) -> Result<Object, Status>;

    /// Replaces an object's status; its resourceVersion must be current when it is set.
    ///
    /// # Errors
    /// As the API answers.
    async fn update_status(&self, resource: &GroupVersionResource, object: Object) -> Result<Object, Status>;

    /// Deletes an object, with a precondition on its uid.
    ///
    /// # Errors
    /// As the API answers.
    async fn delete(&self, resource: &GroupVersionResource, object: &Object) -> Result<(), Status>;
}
