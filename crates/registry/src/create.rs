//! Create: admission, prepare, validate, write.

use std::time::Duration;

use meta::field::Error;
use meta::{GroupVersionKind, Object, Status};
use rt::time::Instant;
use serde_json::Value;
use store::Conditional;

use crate::admit::{Attributes, Operation, Warnings};
use crate::entry::{Raw, encode};
use crate::objectmeta;
use crate::resource::Resource;
use crate::strategy::{Ctx, Finish, Strategy};

/// Tries to find a free name for `generateName`, as upstream.
const NAME_TRIES: usize = 8;
/// A generated name's random letters, and the longest prefix that is kept.
const SUFFIX: usize = 5;
const MAX_PREFIX: usize = 63 - SUFFIX;
/// Leases of short-lived objects are shared for so long.
const LEASE_REUSE: Duration = Duration::from_secs(60);

/// A lease shared by objects written close together.
pub(crate) struct EventLease {
    id: store::LeaseId,
    until: Instant,
}

/// A write request: what strategy, admission and warnings need to know.
pub struct Request {
    /// The strategy's view.
    pub cx: Ctx,
    /// Kind of the object in the request's version.
    pub kind: GroupVersionKind,
    /// CreateOptions and so on, as an object.
    pub options: Value,
    /// Warnings for the client.
    pub warnings: Warnings,
}

impl Request {
    /// Admission's view of the request.
    pub fn attributes<'a>(&'a self, operation: Operation, name: &'a str, old: Option<&'a Object>) -> Attributes<'a> {
        Attributes {
            operation,
            kind: self.kind.clone(),
            resource: self.cx.gvr.clone(),
            subresource: &self.cx.subresource,
            namespace: &self.cx.namespace,
            name,
            old,
            options: &self.options,
            dry_run: self.cx.dry_run,
            user: &self.cx.user,
            registry: &self.cx.registry,
            warnings: &self.warnings,
        }
    }

    pub(crate) fn warn_all(&self, warnings: Vec<String>) {
        warnings.into_iter().for_each(|w| self.warnings.add(w));
    }
}

/// Runs a hook's end.
pub(crate) async fn finish(hook: Option<Finish>, committed: bool) {
    if let Some(hook) = hook {
        hook(committed).await;
    }
}

/// Joins metadata errors with the strategy's, which may repeat some of them.
pub(crate) fn join_errors(mut errors: Vec<Error>, more: Vec<Error>) -> Vec<Error> {
    for error in more {
        if !errors.iter().any(|e| e.cause() == error.cause()) {
            errors.push(error);
        }
    }
    errors
}

/// The namespace of the object must be the request's; an empty one is filled in.
///
/// # Errors
/// They differ: 400.
pub fn ensure_namespace(object: &mut Object, namespace: &str) -> Result<(), Status> {
    match (object.namespace(), namespace) {
        (same, wanted) if same == wanted => Ok(()),
        ("", wanted) => {
            object.set_meta_str("namespace", wanted);
            Ok(())
        }
        (_, "") => Err(Status::bad_request("namespace may not be set on a cluster-scoped object")),
        _ => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// Removes what only the server sets.
pub fn wipe_system_fields(object: &mut Object) {
    let metadata = object.metadata_mut();
    for field in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
}

/// What the server alone says about a new object.
fn fill_metadata(object: &mut Object) {
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"] {
        object.metadata_mut().remove(field);
    }
    object.set_meta_str("creationTimestamp", &meta::time::format_seconds(rt::time::now()));
    object.set_meta_str("uid", &rt::rand::uid());
}

impl Resource {
    /// Creates an object (hub version, field ownership already computed).
    ///
    /// # Errors
    /// Refused by admission or validation, the name is taken, or the store failed.
    pub async fn create(&self, request: &Request, mut object: Object) -> Result<Raw, Status> {
        let namespace = if self.row.namespaced { request.cx.namespace.as_str() } else { "" };
        ensure_namespace(&mut object, namespace)?;
        if !matches!(object.resource_version(), "" | "0") {
            return Err(Status::failure(500, "", "resourceVersion should not be set on objects to be created"));
        }
        wipe_system_fields(&mut object);
        let admit = request.cx.registry.admit();
        let name = object.name().to_owned();
        admit.mutate(&request.attributes(Operation::Create, &name, None), Some(&mut object)).await?;
        self.create_admitted(request, object).await
    }

    /// The part of a create after mutating admission; also for creates by PUT and apply.
    pub(crate) async fn create_admitted(&self, request: &Request, mut object: Object) -> Result<Raw, Status> {
        let strategy = &*self.row.strategy;
        fill_metadata(&mut object);
        let generate = object.name().is_empty() && !object.generate_name().is_empty();
        if !generate {
            return self.create_named(strategy, request, object).await;
        }
        let prefix = object.generate_name();
        let end = prefix.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_PREFIX).last().unwrap_or(0);
        let prefix = if prefix.len() <= MAX_PREFIX { prefix } else { &prefix[..end] };
        let mut tries = 0;
        loop {
            tries += 1;
            let mut attempt = object.clone();
            attempt.set_meta_str("name", &format!("{prefix}{}", rt::rand::name_suffix(SUFFIX)));
            match self.create_named(strategy, request, attempt).await {
                Err(status) if status.is_already_exists() && tries < NAME_TRIES => {}
                Err(status) if status.is_already_exists() => {
                    let name = status.details.map(|d| d.name).unwrap_or_default();
                    return Err(Status::generate_name_conflict(&self.row.group_resource(), &name));
                }
                other => return other,
            }
        }
    }

    async fn create_named(
        &self,
        strategy: &dyn Strategy,
        request: &Request,
        mut object: Object,
    ) -> Result<Raw, Status> {
        // After the name and the uid are known: jobs select their pods by them.
        strategy.prepare_for_create(&request.cx, &mut object);
        if strategy.has_generation() {
            object.set_generation(1);
        }
        self.create_once(strategy, request, object).await
    }

    async fn create_once(&self, strategy: &dyn Strategy, request: &Request, mut object: Object) -> Result<Raw, Status> {
        let name_errors = |name: &str, prefix: bool| strategy.validate_name(name, prefix);
        let errors = objectmeta::validate(&object, self.row.namespaced, &name_errors);
        let errors = join_errors(errors, strategy.validate(&request.cx, &object));
        if !errors.is_empty() {
            return Err(Status::invalid(&self.row.hub.group_kind(), object.name(), &errors));
        }
        request.warn_all(strategy.warnings_on_create(&request.cx, &object));
        strategy.canonicalize(&mut object);
        let key = self.key(&request.cx.namespace, object.name())?;
        let hook = match strategy.hooks() {
            Some(hooks) => hooks.begin_create(&request.cx, &mut object).await?,
            None => None,
        };
        let written = self.write_new(request, &key, &object).await;
        finish(hook, written.is_ok() && !request.cx.dry_run).await;
        written
    }

    async fn write_new(&self, request: &Request, key: &str, object: &Object) -> Result<Raw, Status> {
        let attributes = request.attributes(Operation::Create, object.name(), None);
        request.cx.registry.admit().validate(&attributes, Some(object)).await?;
        let value = encode(&self.row, object)?;
        let taken = || Status::already_exists(&self.row.group_resource(), object.name());
        if request.cx.dry_run {
            return match self.read(key).await? {
                Some(_) => Err(taken()),
                None => Ok(Raw { value, revision: 0 }),
            };
        }
        let lease = self.lease().await?;
        let done = self.store().put_if(key.to_owned().into(), 0, value.clone(), lease).await;
        match done.map_err(|e| crate::storage_error(&e))? {
            Conditional::Applied { revision } => Ok(Raw { value, revision }),
            Conditional::Conflict { .. } => Err(taken()),
        }
    }

    /// The lease for short-lived kinds, shared by writes of one minute; 0 for others.
    pub(crate) async fn lease(&self) -> Result<store::LeaseId, Status> {
        let Some(ttl) = self.row.strategy.ttl_seconds() else { return Ok(0) };
        let mut slot = self.lease.lock().await;
        if let Some(lease) = slot.as_ref().filter(|l| Instant::now() < l.until) {
            return Ok(lease.id);
        }
        let reuse = i64::try_from(LEASE_REUSE.as_secs()).unwrap_or(0);
        let lease = self.store().lease_grant(ttl + reuse, 0).await.map_err(|e| crate::storage_error(&e))?;
        *slot = Some(EventLease { id: lease.id, until: Instant::now() + LEASE_REUSE });
        Ok(lease.id)
    }
}
