//! What a kind contributes to the one pipeline: its [`Strategy`].
//!
//! The order on create is: decode → [`Strategy::default_object`] → mutating admission → [`Strategy::prepare_for_create`] →
//! metadata filled in → [`Strategy::validate`] → [`Strategy::warnings_on_create`] → [`Strategy::canonicalize`] → validating
//! admission → [`Hooks::begin_create`] → write. Update and patch run the same with the `_update` methods, and *all of it
//! again* with the fresh old object after a conflict, so every method must be pure but for the object it is given.
//!
//! Objects are always in the row's hub version ([`crate::KindRow::hub`]).

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use meta::{GroupVersionResource, Object, Status, field};
use serde_json::Value;

use crate::Registry;

/// What a strategy may know about the request.
#[derive(Clone)]
pub struct Ctx {
    /// Who asks.
    pub user: Arc<auth_api::UserInfo>,
    /// Namespace of the request, empty for cluster-scoped kinds.
    pub namespace: String,
    /// The resource in the version of the request.
    pub gvr: GroupVersionResource,
    /// Subresource, empty for the object itself.
    pub subresource: String,
    /// Whether nothing may be persisted (`dryRun=All`).
    pub dry_run: bool,
    /// The storage of every kind, for lookups and for hooks.
    pub registry: Arc<Registry>,
}

/// How long a pod-like kind may linger; see [`Strategy::check_graceful_delete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Graceful {
    /// The kind is deleted at once (but for finalizers).
    #[default]
    No,
    /// The kind is first marked with `deletionTimestamp`; the effective seconds.
    Seconds(i64),
}

/// Where a selectable field's value comes from.
#[derive(Clone, Copy)]
pub enum FieldSource {
    /// A path in the object; scalars are printed, absent values give the text.
    Path(&'static [&'static str], &'static str),
    /// A path to a list of objects and a text field of theirs; the texts are joined by commas.
    Join(&'static [&'static str], &'static str),
    /// A function of the object, which must be decoded for it.
    Fn(fn(&Object) -> String),
}

/// A field that `fieldSelector` may name besides `metadata.name` and `metadata.namespace`.
#[derive(Clone, Copy)]
pub struct SelectableField {
    /// Name as in the selector, such as `spec.nodeName`.
    pub name: &'static str,
    /// Its value.
    pub source: FieldSource,
    /// Whether the watch cache keeps an index on it (pods' `spec.nodeName`).
    pub indexed: bool,
}

impl SelectableField {
    /// A field at a path, empty when absent.
    pub const fn path(name: &'static str, path: &'static [&'static str]) -> Self {
        Self { name, source: FieldSource::Path(path, ""), indexed: false }
    }

    /// A field at a path with the text for an absent value.
    pub const fn path_or(name: &'static str, path: &'static [&'static str], absent: &'static str) -> Self {
        Self { name, source: FieldSource::Path(path, absent), indexed: false }
    }

    /// The texts that the objects of a list have in a field, joined by commas.
    pub const fn joined(name: &'static str, list: &'static [&'static str], field: &'static str) -> Self {
        Self { name, source: FieldSource::Join(list, field), indexed: false }
    }

    /// A computed field. The watch cache then decodes each object that it sees.
    pub const fn computed(name: &'static str, value: fn(&Object) -> String) -> Self {
        Self { name, source: FieldSource::Fn(value), indexed: false }
    }

    /// The same, indexed.
    pub const fn indexed(mut self) -> Self {
        self.indexed = true;
        self
    }

    /// The value in an object.
    pub fn value(&self, object: &Object) -> String {
        match self.source {
            FieldSource::Fn(value) => value(object),
            FieldSource::Join(list, field) => {
                let items = object.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let texts: Vec<&str> = items.iter().filter_map(|item| item.get(field)?.as_str()).collect();
                texts.join(",")
            }
            FieldSource::Path(path, absent) => match object.get(path) {
                Some(Value::String(text)) if text.is_empty() => absent.to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(Value::Bool(flag)) => flag.to_string(),
                Some(Value::Number(number)) => number.to_string(),
                _ => absent.to_owned(),
            },
        }
    }
}

/// A column of a server-side table (`meta/v1 TableColumnDefinition`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Head line, such as `Ready`.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the name column.
    pub format: &'static str,
    /// Shown by `kubectl explain`-like readers.
    pub description: String,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// A column with the given name and type, priority 0.
    pub fn new(name: &str, kind: &'static str) -> Self {
        Self { name: name.into(), kind, format: "", description: String::new(), priority: 0 }
    }

    /// The column `Name`.
    pub fn name() -> Self {
        Self {
            format: "name",
            description: "The unique name of the object within its scope.".into(),
            ..Self::new("Name", "string")
        }
    }

    /// Only with `-o wide`.
    pub fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    /// Adds a description.
    pub fn describe(mut self, text: &str) -> Self {
        self.description = text.into();
        self
    }
}

/// Called once after the write succeeded (`true`) or did not (`false`); releases or keeps what was allocated.
pub type Finish = Box<dyn FnOnce(bool) -> BoxFuture<'static, ()> + Send>;

/// Side effects around a write, such as ClusterIP allocation. Never called on dry run except `begin_*` with
/// [`Ctx::dry_run`] set, which then must not keep anything.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Before a create is written, after validation; may change the object.
    ///
    /// # Errors
    /// Refuses the create with this status.
    async fn begin_create(&self, _cx: &Ctx, _object: &mut Object) -> Result<Option<Finish>, Status> {
        Ok(None)
    }

    /// Before an update is written, after validation; may change the object. Runs again on every retry, with `finish(false)`
    /// of the earlier try called before.
    ///
    /// # Errors
    /// Refuses the update with this status.
    async fn begin_update(&self, _cx: &Ctx, _object: &mut Object, _old: &Object) -> Result<Option<Finish>, Status> {
        Ok(None)
    }

    /// After the object is gone from the store.
    async fn after_delete(&self, _cx: &Ctx, _object: &Object) {}
}

/// A kind's part in the pipeline. Every method has the default that fits a kind with only metadata.
#[allow(unused_variables, reason = "defaults ignore their arguments; the names are the documentation")]
#[async_trait]
pub trait Strategy: Send + Sync {
    /// Fills in defaults after decoding (hub version). May mutate; must not look at the request.
    fn default_object(&self, object: &mut Object) {}

    /// Create: drops what a client may not set (status), sets initial values.
    fn prepare_for_create(&self, cx: &Ctx, object: &mut Object) {}

    /// Create: validates kind-specific fields *and* metadata (rules has the function for object metadata; the pipeline
    /// itself validates name, generateName, namespace, labels, annotations, finalizers and owners before calling this).
    fn validate(&self, cx: &Ctx, object: &Object) -> Vec<field::Error> {
        Vec::new()
    }

    /// Validates `metadata.name`; `prefix` is set for generateName. Messages only, as upstream's `NameIsDNSSubdomain`.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::names::dns1123_subdomain(name, prefix)
    }

    /// Create: warnings for the `Warning` header.
    fn warnings_on_create(&self, cx: &Ctx, object: &Object) -> Vec<String> {
        Vec::new()
    }

    /// Last change before writing, after validation (both verbs).
    fn canonicalize(&self, object: &mut Object) {}

    /// Whether PUT of an absent object creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without resourceVersion is taken.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Update: copies what this endpoint may not change from `old` (status on the object itself; all but status on the
    /// status subresource), bumps nothing: the pipeline sets `generation` when `spec` (see [`Strategy::generation_changed`]) changed.
    fn prepare_for_update(&self, cx: &Ctx, object: &mut Object, old: &Object) {}

    /// Update: validation against the old object.
    fn validate_update(&self, cx: &Ctx, object: &Object, old: &Object) -> Vec<field::Error> {
        Vec::new()
    }

    /// Update: warnings.
    fn warnings_on_update(&self, cx: &Ctx, object: &Object, old: &Object) -> Vec<String> {
        Vec::new()
    }

    /// Whether the kind keeps `metadata.generation` (set to 1 on create).
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether this update must raise `metadata.generation`; by default when anything but `metadata` and `status` differs.
    fn generation_changed(&self, object: &Object, old: &Object) -> bool {
        let rest = |o: &Object| -> Vec<(String, Value)> {
            let kept = |k: &str| !matches!(k, "metadata" | "status" | "apiVersion" | "kind");
            o.body.iter().filter(|(k, v)| kept(k) && !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        rest(object) != rest(old)
    }

    /// Fields that this endpoint resets and that server-side apply must not own here, as paths such as `&["status"]`.
    fn reset_fields(&self) -> &'static [&'static [&'static str]] {
        &[]
    }

    /// Delete: how long the object lingers. `requested` is `gracePeriodSeconds` of the options, if given. Pods: see upstream's
    /// `podStrategy.CheckGracefulDelete` (spec's period, 0 when unscheduled or finished).
    fn check_graceful_delete(&self, cx: &Ctx, object: &Object, requested: Option<i64>) -> Graceful {
        Graceful::No
    }

    /// Whether the object must stay for reasons of its own after all metadata finalizers are gone (namespaces' `spec.finalizers`).
    fn pending_finalizers(&self, object: &Object) -> bool {
        false
    }

    /// Called when a delete marks the object with `deletionTimestamp` (namespaces set `status.phase`).
    fn mark_deleting(&self, object: &mut Object) {}

    /// Seconds that an object lives in the store (events).
    fn ttl_seconds(&self) -> Option<i64> {
        None
    }

    /// Whether a delete answers with the deleted object instead of a Status, as upstream's `ReturnDeletedObject`.
    fn return_deleted_object(&self) -> bool {
        false
    }

    /// The garbage collection policy when the options name none; `true` orphans dependents (only historical kinds).
    fn default_orphan_dependents(&self) -> bool {
        false
    }

    /// Selectable fields besides metadata.name and metadata.namespace.
    fn selectable_fields(&self) -> &'static [SelectableField] {
        &[]
    }

    /// Table columns; empty gives Name and Created At... as upstream's default converter.
    fn columns(&self) -> Vec<Column> {
        Vec::new()
    }

    /// A table row's cells, one per column. `now` is seconds since the epoch, for ages.
    fn cells(&self, object: &Object, now: i64) -> Vec<Value> {
        Vec::new()
    }

    /// Side effects around writes.
    fn hooks(&self) -> Option<&dyn Hooks> {
        None
    }

    /// Decorates an object read from the store before it is answered (for example defaults for older stored forms).
    /// `Some` forces a tree for every read, so return `None` unless truly needed.
    fn decorator(&self) -> Option<fn(&mut Object)> {
        None
    }
}

/// The strategy of a kind about which only metadata is known.
#[derive(Debug, Default, Clone, Copy)]
pub struct Plain;

impl Strategy for Plain {}
