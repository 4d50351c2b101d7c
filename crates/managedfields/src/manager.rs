//! `metadata.managedFields`: kept by every create, update, patch and apply.
//!
//! The order of things is upstream's chain of managers: decode the entries, decide whether to track at all, cap the
//! number of updaters, name the manager, update, strip what nobody can own, encode again.

mod capped;
mod conflict;
mod entries;
mod last_applied;

use meta::{Object, Status};
use schema::codec;
use serde_json::Value;

use crate::element::PathElement;
use crate::set::Set;
use crate::shape::Shape;
use crate::typed::{errors_text, validate};
use crate::updater::{Conflict, Managers, UpdateError, Updater, Versions};
use entries::{Identity, Managed};

pub use entries::decode_managed_fields;

/// The manager to which fields go that were set before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager of `kubectl apply --server-side`, which also keeps the client-side annotation.
const KUBECTL: &str = "kubectl";
/// The identifier under which a running update collects its fields.
const CURRENT: &str = "current-operation";
const OPERATION_APPLY: &str = "Apply";
const OPERATION_UPDATE: &str = "Update";

/// Why an apply failed.
#[derive(Debug)]
pub enum ApplyError {
    /// Other managers own some of the fields.
    Conflicts(Vec<Conflict>),
    /// Anything else, as the client shall see it.
    Status(Box<Status>),
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Conflicts(conflicts) => conflict::status(&conflicts),
            ApplyError::Status(status) => *status,
        }
    }
}

/// Versions of a built-in kind: shapes from the table, conversion by a function.
pub struct BuiltIn<'a> {
    /// The kind.
    pub kind: &'a str,
    /// Converts an object to another `apiVersion`; `None` when it cannot.
    pub convert: &'a dyn Fn(&Value, &str) -> Option<Value>,
}

impl Versions for BuiltIn<'_> {
    fn shape(&self, api_version: &str) -> Option<Shape> {
        codec::type_of(api_version, self.kind).ok().map(Shape::Struct)
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        (self.convert)(object, api_version)
    }
}

/// Keeps `managedFields` for one request.
pub struct FieldManager<'a> {
    /// Shapes and conversions of the kind.
    pub versions: &'a dyn Versions,
    /// The request's `apiVersion`; all objects given must be in it.
    pub api_version: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The subresource of the request, empty for the object itself.
    pub subresource: &'a str,
    /// The fields that the endpoint resets.
    pub reset: Option<&'a Set>,
    /// The time for new entries, RFC 3339.
    pub now: &'a str,
}

impl FieldManager<'_> {
    /// Records a create, update or patch by `manager`. `live` is the default object for a create. Never fails: when
    /// something is wrong with the fields, the object goes on without them, as upstream.
    pub fn update(&self, live: Object, mut new: Object, manager: &str) -> Object {
        let mut live = self.live(live);
        let managed = self.decode_live_or_new(&live, &new);
        strip_managed_fields(&mut new);
        let Some(managed) = managed else { return new };
        let exists = !live.uid().is_empty();
        strip_managed_fields(&mut live);
        // Lent as values and taken back: copies of whole objects are what costs here.
        let (old, fresh) = (Value::Object(live.body), Value::Object(new.body));
        let tracked = self.track(exists, &old, &fresh, managed, manager);
        let Value::Object(body) = fresh else { return Object::default() };
        let mut new = Object { body };
        if let Ok(managed) = tracked {
            managed.write(&mut new);
        }
        new
    }

    /// Applies `patch` as `manager` to `live` (the default object when there is none yet). The result still has to be
    /// normalised, defaulted and validated.
    ///
    /// # Errors
    /// Conflicts unless `force`, an apply in the wrong version, a patch that does not fit the type.
    pub fn apply(&self, live: &Object, patch: &Object, manager: &str, force: bool) -> Result<Object, ApplyError> {
        let live = self.live(live.clone());
        let managed = Managed::decode(live.metadata().and_then(|m| m.get("managedFields")))
            .map_err(|e| failure(format!("failed to decode managed fields: {e}")))?;
        let (mut object, managed) = match self.apply_tracked(&live, patch, managed.clone(), manager, force) {
            Err(ApplyError::Conflicts(conflicts)) if manager == KUBECTL => {
                // Fields that kubectl applied on the client before may be taken over.
                let allowed = last_applied::allowed(self, &live);
                let left: Vec<Conflict> = conflicts
                    .iter()
                    .filter(|c| !allowed.as_ref().is_some_and(|set| set.has(&c.path)))
                    .cloned()
                    .collect();
                if !left.is_empty() {
                    return Err(ApplyError::Conflicts(left));
                }
                self.apply_tracked(&live, patch, managed, manager, true)?
            }
            other => other?,
        };
        if manager == KUBECTL {
            last_applied::refresh(&mut object, patch);
        }
        managed.write(&mut object);
        Ok(object)
    }

    /// The live object, or for a create Go's zero object, so that zero values count as unchanged.
    fn live(&self, live: Object) -> Object {
        if !live.body.is_empty() {
            return live;
        }
        let mut empty = Object::default();
        empty.body.insert("apiVersion".into(), self.api_version.into());
        empty.body.insert("kind".into(), self.kind.into());
        match codec::type_of(self.api_version, self.kind) {
            Ok(t) if codec::normalize_as(t, &mut empty).is_ok() => empty,
            _ => Object::default(),
        }
    }

    /// The entries to start from; `None` when they are not to be kept at all.
    fn decode_live_or_new(&self, live: &Object, new: &Object) -> Option<Managed> {
        fn entries(o: &Object) -> Option<&Value> {
            o.metadata().and_then(|m| m.get("managedFields"))
        }
        let from_live = || Managed::decode(entries(live)).unwrap_or_default();
        if !self.subresource.is_empty() {
            return Some(from_live());
        }
        let given = entries(new);
        if is_reset(given) {
            return None;
        }
        match Managed::decode(given) {
            Ok(managed) if !managed.managers.is_empty() => Some(managed),
            _ => Some(from_live()),
        }
    }

    fn updater(&self) -> Updater<'_> {
        Updater { versions: self.versions, api_version: self.api_version, ignored: self.reset }
    }

    /// An update with tracking; objects that nobody tracked since their creation stay untracked.
    fn track(
        &self,
        exists: bool,
        old: &Value,
        new: &Value,
        managed: Managed,
        manager: &str,
    ) -> Result<Managed, UpdateError> {
        if managed.managers.is_empty() && exists {
            return Ok(managed);
        }
        self.record(old, new, managed, manager)
    }

    fn record(&self, old: &Value, new: &Value, mut managed: Managed, manager: &str) -> Result<Managed, UpdateError> {
        let identity = Identity {
            manager: manager.to_owned(),
            operation: OPERATION_UPDATE.to_owned(),
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
        }
        .id();
        managed.managers = self.updater().update(old, new, managed.managers, CURRENT)?;
        strip_meta(&mut managed.managers, CURRENT);
        if let Some(mut owned) = managed.managers.remove(CURRENT) {
            if let Some(previous) = managed.managers.get(&identity) {
                owned.set = owned.set.union(&previous.set);
            }
            managed.managers.insert(identity.clone(), owned);
            managed.times.insert(identity, self.now.to_owned());
        }
        capped::cap(&mut managed);
        Ok(managed)
    }

    fn apply_tracked(
        &self,
        live: &Object,
        patch: &Object,
        mut managed: Managed,
        manager: &str,
        force: bool,
    ) -> Result<(Object, Managed), ApplyError> {
        self.check_patch(patch)?;
        let old = bare(live);
        if managed.managers.is_empty() {
            let nothing = bare(&self.live(Object::default()));
            managed = self.record(&nothing, &old, managed, BEFORE_FIRST_APPLY).map_err(|e| self.error(e))?;
        }
        let shape = self.versions.shape(self.api_version).unwrap_or(Shape::Deduced);
        let config = Value::Object(patch.body.clone());
        let errors = validate(&config, &shape, false);
        if !errors.is_empty() {
            let which = self.describe(patch);
            return Err(failure(format!("failed to create typed patch object ({which}): {}", errors_text(&errors))));
        }
        let identity = Identity {
            manager: manager.to_owned(),
            operation: OPERATION_APPLY.to_owned(),
            api_version: String::new(),
            subresource: self.subresource.to_owned(),
        }
        .id();
        let (changed, managers) =
            self.updater().apply(&old, &config, managed.managers, &identity, force).map_err(|e| self.error(e))?;
        managed.managers = managers;
        strip_meta(&mut managed.managers, &identity);
        let object = match changed {
            Some(Value::Object(body)) => {
                managed.times.insert(identity, self.now.to_owned());
                Object { body }
            }
            _ => {
                managed.times.entry(identity).or_insert_with(|| self.now.to_owned());
                let mut same = live.clone();
                strip_managed_fields(&mut same);
                same
            }
        };
        Ok((object, managed))
    }

    fn check_patch(&self, patch: &Object) -> Result<(), ApplyError> {
        let version = patch.api_version();
        if version != self.api_version {
            let message = format!(
                "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
                self.api_version
            );
            return Err(ApplyError::Status(Box::new(Status::bad_request(message))));
        }
        if patch.metadata().and_then(|m| m.get("managedFields")).is_some_and(|m| !m.is_null()) {
            let message = "metadata.managedFields must be nil";
            return Err(ApplyError::Status(Box::new(Status::bad_request(message))));
        }
        Ok(())
    }

    fn error(&self, error: UpdateError) -> ApplyError {
        match error {
            UpdateError::Conflicts(conflicts) => ApplyError::Conflicts(conflicts),
            UpdateError::Merge(message) => failure(message),
            UpdateError::UnknownVersion(version) => failure(format!("no type found for version {version}")),
        }
    }

    /// `ns/name; group/version, Kind=Kind`.
    fn describe(&self, object: &Object) -> String {
        format!("{}/{}; {}", object.namespace(), object.name(), object.gvk())
    }
}

/// Upstream's plain errors: code 500, no reason.
fn failure(message: String) -> ApplyError {
    ApplyError::Status(Box::new(Status::failure(500, "", message)))
}

/// The object without its `managedFields`.
fn bare(object: &Object) -> Value {
    let mut copy = object.clone();
    strip_managed_fields(&mut copy);
    Value::Object(copy.body)
}

/// `[{}]` asks for the entries to be dropped.
fn is_reset(entries: Option<&Value>) -> bool {
    match entries.and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::Object(only)]) => only.values().all(|v| v.is_null() || v == ""),
        _ => false,
    }
}

/// Fields of `metadata` (and the type) that the server keeps: nobody owns them.
fn strip_meta(managers: &mut Managers, manager: &str) {
    let Some(owned) = managers.get_mut(manager) else { return };
    const META: [&str; 8] =
        ["name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion"];
    for field in ["apiVersion", "kind", "metadata"] {
        owned.set.remove(&[PathElement::field(field)]);
    }
    let mut path = [PathElement::field("metadata"), PathElement::field("clusterName")];
    owned.set.remove(&path);
    for field in META {
        path[1] = PathElement::field(field);
        owned.set.remove(&path);
    }
    if owned.set.is_empty() {
        managers.remove(manager);
    }
}

/// Takes `metadata.managedFields` out of an object.
pub fn strip_managed_fields(object: &mut Object) {
    if let Some(Value::Object(metadata)) = object.body.get_mut("metadata") {
        metadata.remove("managedFields");
    }
}

/// Puts `managedFields` back when mutating admission broke them; gives the warning for the client.
pub fn revert_invalid_managed_fields(before: &Object, after: &mut Object) -> Option<String> {
    fn entries(o: &Object) -> Option<&Value> {
        o.metadata().and_then(|m| m.get("managedFields"))
    }
    let (now, then) = (entries(after), entries(before));
    if now == then {
        return None;
    }
    let error = decode_managed_fields(now).err()?;
    match then {
        Some(value) => {
            after.metadata_mut().insert("managedFields".into(), value.clone());
        }
        None => strip_managed_fields(after),
    }
    Some(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {error}"
    ))
}

/// Keeps the old entries when only their times differ and nothing else of the object changed, so that a write that
/// changes nothing stays none.
pub fn ignore_timestamp_changes(old: &Object, new: &mut Object) {
    let same = old.body.len() == new.body.len()
        && old.body.iter().all(|(name, before)| match (name.as_str(), new.body.get(name)) {
            ("metadata", Some(now)) => same_but(before, now, "managedFields", same_entries),
            (_, now) => now == Some(before),
        });
    if same {
        *new = old.clone();
    }
}

/// Whether two values are the same when one field, if they are objects, is compared in another way.
fn same_but(a: &Value, b: &Value, field: &str, compare: impl Fn(&Value, &Value) -> bool) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return a == b };
    a.len() == b.len()
        && a.iter().all(|(name, value)| match b.get(name) {
            Some(other) if name == field => compare(value, other),
            other => other == Some(value),
        })
}

/// Whether two lists of entries differ at most in their times.
fn same_entries(a: &Value, b: &Value) -> bool {
    let (Value::Array(a), Value::Array(b)) = (a, b) else { return a == b };
    let timeless = |entry: &Value| entry.as_object().map_or(0, |e| e.len() - usize::from(e.contains_key("time")));
    let same = |a: &Value, b: &Value| {
        let (Value::Object(x), Value::Object(y)) = (a, b) else { return a == b };
        timeless(a) == timeless(b) && x.iter().all(|(name, value)| name == "time" || y.get(name) == Some(value))
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

#[cfg(test)]
mod tests;
