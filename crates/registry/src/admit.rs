//! The seam between the pipeline and admission plugins.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{GroupVersionKind, GroupVersionResource, Object, Status};
use parking_lot::Mutex;
use serde_json::Value;

use crate::Registry;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// POST of an object or a create-only subresource.
    Create,
    /// PUT or PATCH.
    Update,
    /// DELETE; there is no new object.
    Delete,
    /// exec, attach, portforward, proxy; the object is the options.
    Connect,
}

impl Operation {
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// What admission knows of a request, besides the new object.
pub struct Attributes<'a> {
    /// Operation.
    pub operation: Operation,
    /// Kind of the object in the request's version.
    pub kind: GroupVersionKind,
    /// Resource in the request's version.
    pub resource: GroupVersionResource,
    /// Subresource, may be empty.
    pub subresource: &'a str,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name; may be empty on create with generateName.
    pub name: &'a str,
    /// The stored object on update and delete.
    pub old: Option<&'a Object>,
    /// CreateOptions, UpdateOptions, PatchOptions, DeleteOptions, as in the request.
    pub options: &'a Value,
    /// Whether it is a dry run.
    pub dry_run: bool,
    /// Who asks.
    pub user: &'a auth_api::UserInfo,
    /// The storage of every kind.
    pub registry: &'a Arc<Registry>,
    /// Warnings for the client.
    pub warnings: &'a Warnings,
}

/// Takes facts about a request for its audit event.
pub trait Annotate: Send + Sync {
    /// Adds a fact; the first value of a key stays.
    fn annotate(&self, key: &str, value: &str);

    /// Whether the event has the request's body, and so may have facts as large as it.
    fn records_bodies(&self) -> bool;
}

/// What is said about one request beside its answer: warnings for the client, facts for the audit log.
#[derive(Default)]
pub struct Warnings {
    texts: Mutex<Vec<String>>,
    trail: Option<Arc<dyn Annotate>>,
}

impl std::fmt::Debug for Warnings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Warnings").field(&*self.texts.lock()).finish()
    }
}

impl Warnings {
    /// Warnings of a request that is audited.
    pub fn audited(trail: Option<Arc<dyn Annotate>>) -> Self {
        Self { texts: Mutex::default(), trail }
    }

    /// Adds a fact to the request's audit event, when there is one.
    pub fn annotate(&self, key: &str, value: &str) {
        if let Some(trail) = &self.trail {
            trail.annotate(key, value);
        }
    }

    /// Whether the audit event has the request's body.
    pub fn records_bodies(&self) -> bool {
        self.trail.as_ref().is_some_and(|trail| trail.records_bodies())
    }

    /// Adds a warning; duplicates and empty texts are left out.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.texts.lock();
        if !text.is_empty() && !all.contains(&text) {
            all.push(text);
        }
    }

    /// Takes all warnings.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.texts.lock())
    }
}

/// The admission chain, implemented by crate `admission`. The pipeline calls `mutate` before prepare and validation and
/// `validate` right before the write; both again on every retry after a conflict.
#[async_trait]
pub trait Admit: Send + Sync {
    /// Mutating plugins, in order. `object` is in the row's hub version; `None` on delete.
    ///
    /// # Errors
    /// The first refusal, as the client gets it.
    async fn mutate(&self, attributes: &Attributes<'_>, object: Option<&mut Object>) -> Result<(), Status>;

    /// Validating plugins.
    ///
    /// # Errors
    /// The first refusal, as the client gets it.
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status>;
}

/// Admits everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct AdmitAll;

#[async_trait]
impl Admit for AdmitAll {
    async fn mutate(&self, _attributes: &Attributes<'_>, _object: Option<&mut Object>) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(&self, _attributes: &Attributes<'_>, _object: Option<&Object>) -> Result<(), Status> {
        Ok(())
    }
}
