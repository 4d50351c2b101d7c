//! Delete: grace, finalizers, propagation, preconditions.

use meta::{Object, Status, StatusDetails};
use serde_json::Value;
use store::Conditional;

use crate::admit::Operation;
use crate::create::Request;
use crate::entry::{Raw, decode_hub, encode};
use crate::listing::ListOptions;
use crate::resource::Resource;
use crate::strategy::Graceful;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// `propagationPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents stay.
    Orphan,
    /// Dependents go afterwards.
    Background,
    /// Dependents go first.
    Foreground,
}

/// What a delete asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub grace_period_seconds: Option<i64>,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// `propagationPolicy`, or `orphanDependents` translated.
    pub propagation: Option<Propagation>,
}

/// What came of a delete.
#[derive(Debug)]
pub struct Deleted {
    /// The object: as it is now, or as it was last.
    pub raw: Raw,
    /// Whether it is gone.
    pub gone: bool,
    /// For the Status that answers.
    pub details: StatusDetails,
}

enum Step {
    /// Nothing changes: deletion is under way.
    Pending,
    /// The object is written with its mark; it stays.
    Mark(Box<Object>),
    /// It is removed at once.
    Remove,
}

impl Resource {
    /// Deletes an object, or begins to.
    ///
    /// # Errors
    /// 404, a failed precondition, refused by admission, or the store failed.
    pub async fn delete(&self, request: &Request, name: &str, options: &DeleteOptions) -> Result<Deleted, Status> {
        let key = self.key(&request.cx.namespace, name)?;
        let admit = request.cx.registry.admit();
        admit.mutate(&request.attributes(Operation::Delete, name, None), None).await?;
        let mut options = options.clone();
        loop {
            let Some(current) = self.read(&key).await? else { return Err(self.not_found(name)) };
            let old = decode_hub(&self.row, &current)?;
            options.check_preconditions(&self.row.group_resource(), &old)?;
            admit.validate(&request.attributes(Operation::Delete, name, Some(&old)), None).await?;
            let details = StatusDetails {
                name: name.to_owned(),
                group: self.row.group.clone(),
                kind: self.row.plural.clone(),
                uid: old.uid().to_owned(),
                ..StatusDetails::default()
            };
            let revision = current.revision;
            match self.plan_delete(request, &old, &options)? {
                Step::Pending => return Ok(Deleted { raw: current, gone: false, details }),
                step if request.cx.dry_run => {
                    return Ok(Deleted { raw: current, gone: matches!(step, Step::Remove), details });
                }
                Step::Mark(object) => {
                    let value = encode(&self.row, &object)?;
                    if value == current.value {
                        return Ok(Deleted { raw: current, gone: false, details });
                    }
                    let lease = self.lease().await?;
                    let put = self.store().put_if(key.clone().into(), revision, value.clone(), lease).await;
                    match put.map_err(|e| crate::storage_error(&e))? {
                        Conditional::Applied { revision } => {
                            return Ok(Deleted { raw: Raw { value, revision }, gone: false, details });
                        }
                        Conditional::Conflict { .. } => {}
                    }
                }
                Step::Remove => {
                    let done = self.store().delete_if(key.clone().into(), revision).await;
                    match done.map_err(|e| crate::storage_error(&e))? {
                        Conditional::Applied { revision } => {
                            self.after_delete(request, &old).await;
                            return Ok(Deleted { raw: Raw { value: current.value, revision }, gone: true, details });
                        }
                        Conditional::Conflict { .. } => {}
                    }
                }
            }
            // Somebody else wrote: a retry must not act on another object of the same name.
            if options.uid.is_none() {
                options.uid = Some(old.uid().to_owned()).filter(|uid| !uid.is_empty());
            }
        }
    }

    /// Decides what a delete does to the object as it is.
    fn plan_delete(&self, request: &Request, old: &Object, options: &DeleteOptions) -> Result<Step, Status> {
        let mut object = old.clone();
        let changed = self.set_propagation_finalizers(&mut object, options);
        let holds = |o: &Object| !o.finalizers().is_empty() || self.row.strategy.pending_finalizers(o);
        if old.deletion_timestamp().is_some() {
            return Ok(self.plan_second_delete(object, options, changed, &holds));
        }
        let requested = options.grace_period_seconds.map(|s| if s < 0 { 1 } else { s });
        let grace = match self.row.strategy.check_graceful_delete(&request.cx, old, requested) {
            Graceful::No => None,
            Graceful::Seconds(seconds) => Some(seconds.max(0)),
        };
        if !holds(&object) && grace.unwrap_or(0) == 0 {
            return Ok(Step::Remove);
        }
        self.mark(&mut object, grace.unwrap_or(0));
        Ok(Step::Mark(Box::new(object)))
    }

    fn plan_second_delete(
        &self,
        mut object: Object,
        options: &DeleteOptions,
        changed: bool,
        holds: &dyn Fn(&Object) -> bool,
    ) -> Step {
        let current = object.deletion_grace_period_seconds();
        let shortened = match (current, options.grace_period_seconds) {
            (Some(current), Some(wanted)) if wanted < current => Some(wanted.max(0)),
            _ => None,
        };
        if let Some(seconds) = shortened {
            let marked = object.deletion_timestamp().and_then(|t| meta::time::parse(t).ok());
            let shift = current.unwrap_or(0) - seconds;
            if let Some(at) =
                marked.and_then(|t| t.checked_sub(std::time::Duration::from_secs(shift.unsigned_abs())).ok())
            {
                object.set_meta_str("deletionTimestamp", &meta::time::format_seconds(at));
            }
            object.metadata_mut().insert("deletionGracePeriodSeconds".into(), seconds.into());
        }
        let left = shortened.or(current).unwrap_or(0);
        match (left == 0, holds(&object)) {
            (true, false) => Step::Remove,
            _ if shortened.is_some() || changed => Step::Mark(Box::new(object)),
            _ => Step::Pending,
        }
    }

    fn mark(&self, object: &mut Object, seconds: i64) {
        let now = rt::time::now();
        let at = now.checked_add(std::time::Duration::from_secs(seconds.unsigned_abs())).unwrap_or(now);
        object.set_meta_str("deletionTimestamp", &meta::time::format_seconds(at));
        object.metadata_mut().insert("deletionGracePeriodSeconds".into(), seconds.into());
        if object.generation() > 0 {
            object.set_generation(object.generation() + 1);
        }
        self.row.strategy.mark_deleting(object);
    }

    /// Puts the garbage collector's finalizers as options, the object's own finalizers and the kind's default ask, in this order.
    fn set_propagation_finalizers(&self, object: &mut Object, options: &DeleteOptions) -> bool {
        let before: Vec<String> = object.finalizers().iter().map(|f| (*f).to_owned()).collect();
        let has = |name: &str| before.iter().any(|f| f == name);
        let (orphan, foreground) = match options.propagation {
            Some(policy) => (policy == Propagation::Orphan, policy == Propagation::Foreground),
            None if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), has(FOREGROUND)),
            None => (self.row.strategy.default_orphan_dependents(), false),
        };
        let mut after: Vec<String> = before.iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned().collect();
        if orphan {
            after.push(ORPHAN.into());
        }
        if foreground {
            after.push(FOREGROUND.into());
        }
        let changed = after.len() != before.len() || before.iter().any(|f| !after.contains(f));
        if changed {
            object.set_finalizers(after);
        }
        changed
    }

    /// Deletes every object that the list options choose; gives what was deleted.
    ///
    /// # Errors
    /// The first failure other than 404 and a changed uid.
    pub async fn delete_collection(
        &self,
        request: &Request,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(Vec<Raw>, i64), Status> {
        let listed = self.list(list).await?;
        let mut deleted = Vec::with_capacity(listed.entries.len());
        for entry in listed.entries {
            let (namespace, name) = entry.identity(&self.row);
            let mut cx = request.cx.clone();
            cx.namespace = namespace.to_owned();
            let single = Request {
                cx,
                kind: request.kind.clone(),
                options: request.options.clone(),
                warnings: crate::admit::Warnings::default(),
            };
            match self.delete(&single, name, options).await {
                Ok(done) => deleted.push(done.raw),
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            }
        }
        Ok((deleted, listed.revision))
    }
}

impl DeleteOptions {
    /// Whether the preconditions fit an object.
    ///
    /// # Errors
    /// A conflict that names what does not fit.
    pub fn check_preconditions(&self, resource: &meta::GroupResource, old: &Object) -> Result<(), Status> {
        let conflict = |what: &str, wanted: &str, is: &str| {
            let cause = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}");
            Status::conflict(resource, old.name(), cause)
        };
        match &self.uid {
            Some(uid) if uid != old.uid() => return Err(conflict("UID", uid, old.uid())),
            _ => {}
        }
        match &self.resource_version {
            Some(version) if version != old.resource_version() => {
                Err(conflict("ResourceVersion", version, old.resource_version()))
            }
            _ => Ok(()),
        }
    }

    /// Reads `DeleteOptions` from its object form.
    ///
    /// # Errors
    /// Contradicting or unknown policies: 422 in upstream's words.
    pub fn from_value(value: &Value) -> Result<Self, Status> {
        let text = |v: Option<&Value>| v.and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
        let policy = text(value.get("propagationPolicy"));
        let orphan = value.get("orphanDependents").and_then(Value::as_bool);
        let path = meta::field::Path::new("propagationPolicy");
        let invalid = |error: meta::field::Error| {
            Status::invalid(&meta::GroupKind::new("meta.k8s.io", "DeleteOptions"), "", &[error])
        };
        if let (Some(policy), Some(_)) = (&policy, orphan) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            return Err(invalid(meta::field::Error::invalid(&path, policy.as_str(), detail)));
        }
        let propagation = match (policy.as_deref(), orphan) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some(other), _) => {
                let valid = ["Background", "Foreground", "Orphan"];
                return Err(invalid(meta::field::Error::not_supported(&path, other, &valid)));
            }
            (None, None) => None,
        };
        Ok(Self {
            grace_period_seconds: value.get("gracePeriodSeconds").and_then(Value::as_i64),
            uid: text(value.pointer("/preconditions/uid")),
            resource_version: text(value.pointer("/preconditions/resourceVersion")),
            propagation,
        })
    }
}
