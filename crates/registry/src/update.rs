//! Update: read, modify, admit, prepare, validate, compare-and-swap; all of it again after a conflict.

use async_trait::async_trait;
use meta::{Object, Status};
use serde_json::Value;
use store::Conditional;

use crate::admit::Operation;
use crate::create::{Request, finish, join_errors};
use crate::entry::{Raw, decode_hub, encode};
use crate::objectmeta;
use crate::resource::Resource;
use crate::strategy::{Finish, Strategy};

const MODIFIED: &str = "the object has been modified; please apply your changes to the latest version and try again";

/// Makes the new object from the old one; called anew on every try.
#[async_trait]
pub trait Updater: Send + Sync {
    /// The new object in the hub version, field ownership computed. `old` is `None` when there is no object yet.
    ///
    /// # Errors
    /// The patch does not apply, or a conflict of ownership.
    async fn next(&self, old: Option<&Object>) -> Result<Object, Status>;
}

/// How an update is done.
#[derive(Clone, Copy)]
pub struct UpdateOptions<'a> {
    /// The endpoint's strategy: the kind's own, or a subresource's.
    pub strategy: &'a dyn Strategy,
    /// Whether an absent object is created whatever the strategy says (apply).
    pub create: bool,
    /// Whether this is the object itself and may create at all.
    pub main: bool,
    /// Whether admission had its say before, on what the request is about: a Binding, an Eviction.
    pub admitted: bool,
}

/// What came of an update.
#[derive(Debug)]
pub struct Updated {
    /// The object as stored now.
    pub raw: Raw,
    /// Whether it was created.
    pub created: bool,
}

enum Attempt {
    Done(Updated),
    Again,
}

impl Resource {
    /// Updates an object.
    ///
    /// # Errors
    /// 404, 409, refused by admission or validation, or the store failed.
    pub async fn update(
        &self,
        request: &Request,
        name: &str,
        updater: &dyn Updater,
        options: UpdateOptions<'_>,
    ) -> Result<Updated, Status> {
        let key = self.key(&request.cx.namespace, name)?;
        loop {
            match self.update_once(request, name, &key, updater, options).await? {
                Attempt::Done(updated) => return Ok(updated),
                Attempt::Again => {}
            }
        }
    }

    async fn update_once(
        &self,
        request: &Request,
        name: &str,
        key: &str,
        updater: &dyn Updater,
        options: UpdateOptions<'_>,
    ) -> Result<Attempt, Status> {
        let Some(current) = self.read(key).await? else {
            return self.create_by_update(request, name, updater, options).await;
        };
        let old = decode_hub(&self.row, &current)?;
        let mut object = updater.next(Some(&old)).await?;
        let attributes = request.attributes(Operation::Update, name, Some(&old));
        if !options.admitted {
            request.cx.registry.admit().mutate(&attributes, Some(&mut object)).await?;
        }
        self.check_version(&mut object, &old, name)?;
        self.prepare(request, &mut object, &old, options.strategy)?;
        let hook = match options.strategy.hooks() {
            Some(hooks) => hooks.begin_update(&request.cx, &mut object, &old).await?,
            None => None,
        };
        let result = self.write_update(request, key, &current, &old, &object, options).await;
        self.settle(request, hook, result, &object).await
    }

    async fn settle(
        &self,
        request: &Request,
        hook: Option<Finish>,
        result: Result<Attempt, Status>,
        _object: &Object,
    ) -> Result<Attempt, Status> {
        let committed = matches!(result, Ok(Attempt::Done(_))) && !request.cx.dry_run;
        finish(hook, committed).await;
        result
    }

    async fn create_by_update(
        &self,
        request: &Request,
        name: &str,
        updater: &dyn Updater,
        options: UpdateOptions<'_>,
    ) -> Result<Attempt, Status> {
        if !options.main || !(options.create || self.row.strategy.allow_create_on_update()) {
            return Err(self.not_found(name));
        }
        let mut object = updater.next(None).await?;
        if !object.uid().is_empty() {
            let cause = format!("Precondition failed: UID in precondition: {}, UID in object meta: ", object.uid());
            return Err(Status::conflict(&self.row.group_resource(), name, cause));
        }
        let namespace = if self.row.namespaced { request.cx.namespace.as_str() } else { "" };
        crate::create::ensure_namespace(&mut object, namespace)?;
        crate::create::wipe_system_fields(&mut object);
        object.metadata_mut().remove("resourceVersion");
        let attributes = request.attributes(Operation::Create, name, None);
        request.cx.registry.admit().mutate(&attributes, Some(&mut object)).await?;
        match self.create_admitted(request, object).await {
            Ok(raw) => Ok(Attempt::Done(Updated { raw, created: true })),
            Err(status) if status.is_already_exists() && !request.cx.dry_run => Ok(Attempt::Again),
            Err(status) => Err(status),
        }
    }

    /// The object's resource version must be the old one's; an absent one means "whatever it is" where that is allowed.
    fn check_version(&self, object: &mut Object, old: &Object, name: &str) -> Result<(), Status> {
        let given = object.resource_version().to_owned();
        if !object.uid().is_empty() && object.uid() != old.uid() {
            let cause = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                object.uid(),
                old.uid()
            );
            return Err(Status::conflict(&self.row.group_resource(), name, cause));
        }
        match given.as_str() {
            "" | "0" if self.row.strategy.allow_unconditional_update() => {
                object.set_meta_str("resourceVersion", old.resource_version());
                Ok(())
            }
            "" | "0" => {
                let path = meta::field::Path::new("metadata").child("resourceVersion");
                let error = meta::field::Error::invalid(&path, Value::from(0), "must be specified for an update");
                Err(Status::invalid(&self.row.hub.group_kind(), name, &[error]))
            }
            version if version == old.resource_version() => Ok(()),
            version if version.parse::<u64>().is_err() => {
                Err(Status::bad_request(format!("invalid resourceVersion {version:?}")))
            }
            _ => Err(Status::conflict(&self.row.group_resource(), name, MODIFIED)),
        }
    }

    fn prepare(
        &self,
        request: &Request,
        object: &mut Object,
        old: &Object,
        strategy: &dyn Strategy,
    ) -> Result<(), Status> {
        let namespace = if self.row.namespaced { request.cx.namespace.as_str() } else { "" };
        crate::create::ensure_namespace(object, namespace)?;
        match old.generation() {
            0 => drop(object.metadata_mut().remove("generation")),
            generation => object.set_generation(generation),
        }
        strategy.prepare_for_update(&request.cx, object, old);
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            let given =
                object.metadata().and_then(|m| m.get(field)).is_some_and(|v| !v.is_null() && v.as_str() != Some(""));
            let before = old.metadata().and_then(|m| m.get(field)).filter(|v| !v.is_null());
            match before {
                Some(before) if !given => {
                    object.metadata_mut().insert(field.into(), before.clone());
                }
                _ => {}
            }
        }
        object.metadata_mut().remove("selfLink");
        if strategy.has_generation()
            && object.generation() == old.generation()
            && strategy.generation_changed(object, old)
        {
            object.set_generation(old.generation() + 1);
        }
        let errors = objectmeta::validate_update(object, old);
        let errors = join_errors(errors, strategy.validate_update(&request.cx, object, old));
        if !errors.is_empty() {
            return Err(Status::invalid(&self.row.hub.group_kind(), object.name(), &errors));
        }
        request.warn_all(strategy.warnings_on_update(&request.cx, object, old));
        strategy.canonicalize(object);
        Ok(())
    }

    async fn write_update(
        &self,
        request: &Request,
        key: &str,
        current: &Raw,
        old: &Object,
        object: &Object,
        options: UpdateOptions<'_>,
    ) -> Result<Attempt, Status> {
        let attributes = request.attributes(Operation::Update, old.name(), Some(old));
        if !options.admitted {
            request.cx.registry.admit().validate(&attributes, Some(object)).await?;
        }
        let value = encode(&self.row, object)?;
        let done =
            |revision| Ok(Attempt::Done(Updated { raw: Raw { value: value.clone(), revision }, created: false }));
        if request.cx.dry_run || (value == current.value && !self.stale(key).await?) {
            return done(current.revision);
        }
        if should_delete(object, old)
            && !options.strategy.pending_finalizers(object)
            && !self.row.strategy.pending_finalizers(object)
        {
            let deleted = self.store().delete_if(key.to_owned().into(), current.revision).await;
            return match deleted.map_err(|e| crate::storage_error(&e))? {
                Conditional::Applied { revision } => {
                    self.after_delete(request, object).await;
                    done(revision)
                }
                Conditional::Conflict { current: None, .. } => done(current.revision),
                Conditional::Conflict { .. } => Ok(Attempt::Again),
            };
        }
        let lease = self.lease().await?;
        let put = self.store().put_if(key.to_owned().into(), current.revision, value.clone(), lease).await;
        match put.map_err(|e| crate::storage_error(&e))? {
            Conditional::Applied { revision } => done(revision),
            Conditional::Conflict { .. } => Ok(Attempt::Again),
        }
    }

    pub(crate) async fn after_delete(&self, request: &Request, object: &Object) {
        if let Some(hooks) = self.row.strategy.hooks() {
            hooks.after_delete(&request.cx, object).await;
        }
    }
}

/// Whether this update removes the last thing that held a deleted object.
fn should_delete(object: &Object, old: &Object) -> bool {
    object.finalizers().is_empty()
        && old.deletion_timestamp().is_some()
        && old.deletion_grace_period_seconds().unwrap_or(0) == 0
}
