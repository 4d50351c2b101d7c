//! Field ownership (`managedFields`) and the two merges that need the schema: strategic merge and apply.

use bytes::Bytes;
use managedfields::{BuiltIn, FieldManager, Set, Shape, Versions};
use meta::{GroupVersionKind, Object, Status};
use registry::{KindRow, Strategy, Warnings};
use serde_json::Value;

use crate::chain::Call;
use crate::decode::FieldValidation;
use crate::route::Target;

/// Kinds whose objects are not tracked, as upstream: they are written often and owned by one.
fn untracked(row: &KindRow) -> bool {
    row.kind == "Event"
}

/// Tracks ownership for one request.
pub(crate) struct Tracker<'a> {
    target: &'a Target,
    subresource: String,
    manager: String,
    reset: Set,
}

/// An apply's patch, decoded.
pub(crate) struct Applied {
    patch: Object,
    force: bool,
}

/// The manager's name: the parameter, else the user agent's first word.
fn manager_name(call: &Call) -> String {
    let given = call.query.get("fieldManager");
    if !given.is_empty() {
        return given.to_owned();
    }
    let agent = call.headers().get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let first = agent.split('/').next().unwrap_or("");
    if first.is_empty() { "unknown".into() } else { first.chars().take(128).collect() }
}

/// Versions of a custom resource.
struct CustomVersions<'a>(&'a KindRow);

impl Versions for CustomVersions<'_> {
    fn shape(&self, api_version: &str) -> Option<Shape> {
        let version = api_version.rsplit('/').next().unwrap_or("");
        if !self.0.versions.iter().any(|v| v == version) {
            return None;
        }
        let schema = self.0.custom.as_ref()?.schema(version);
        Some(managedfields::custom_shape(schema.as_deref()))
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        convert(self.0, object, api_version)
    }
}

fn convert(row: &KindRow, object: &Value, api_version: &str) -> Option<Value> {
    let mut copy = Object::from_value(object.clone())?;
    let to = GroupVersionKind::from_api_version(api_version, copy.kind()).ok()?;
    if copy.gvk() == to {
        return Some(copy.into());
    }
    row.convert_to(&mut copy, &row.hub).ok()?;
    row.convert_to(&mut copy, &to).ok()?;
    Some(copy.into())
}

impl<'a> Tracker<'a> {
    /// For a request that goes through the given strategy.
    pub fn new(call: &Call, target: &'a Target, strategy: &dyn Strategy) -> Self {
        Self {
            target,
            subresource: call.info.subresource.clone(),
            manager: manager_name(call),
            reset: Set::of_fields(strategy.reset_fields()),
        }
    }

    fn with_manager<T>(&self, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
        let row = self.target.row();
        let api_version = self.target.gvk.api_version();
        let now = meta::time::format_seconds(rt::time::now());
        let convert_built_in = |object: &Value, to: &str| convert(row, object, to);
        let built_in = BuiltIn { kind: &row.kind, convert: &convert_built_in };
        let custom = CustomVersions(row);
        let versions: &dyn Versions = if row.custom.is_some() { &custom } else { &built_in };
        let manager = FieldManager {
            versions,
            api_version: &api_version,
            kind: &row.kind,
            subresource: &self.subresource,
            reset: (!self.reset.is_empty()).then_some(&self.reset),
            now: &now,
        };
        work(&manager)
    }

    fn in_version(&self, object: &Object) -> Result<Object, Status> {
        crate::verbs::in_version(self.target.row(), object, &self.target.gvk)
    }

    fn empty(&self) -> Object {
        Object::new(&self.target.gvk)
    }

    /// Records what the request changes between `old` and `new` (both hub version) in `new`.
    ///
    /// # Errors
    /// No conversion to the request's version.
    pub fn track(&self, old: Option<&Object>, new: &mut Object) -> Result<(), Status> {
        if untracked(self.target.row()) {
            return Ok(());
        }
        let live = match old {
            Some(old) => self.in_version(old)?,
            None => self.empty(),
        };
        if new.gvk() == self.target.gvk {
            // The version at hand: nothing is to be copied.
            let served = std::mem::take(new);
            *new = self.with_manager(|m| m.update(live, served, &self.manager));
            if let Some(old) = old {
                managedfields::ignore_timestamp_changes(old, new);
            }
            return Ok(());
        }
        let mut tracked =
            self.with_manager(|m| self.in_version(new).map(|served| m.update(live, served, &self.manager)))?;
        match tracked.body.get_mut("metadata").and_then(Value::as_object_mut).and_then(|m| m.remove("managedFields")) {
            Some(fields) => drop(new.metadata_mut().insert("managedFields".into(), fields)),
            None => managedfields::strip_managed_fields(new),
        }
        if let Some(old) = old {
            managedfields::ignore_timestamp_changes(old, new);
        }
        Ok(())
    }

    /// Applies a patch to `old` (hub version); gives the merged object in the request's version, not yet normalised.
    ///
    /// # Errors
    /// Conflicts with other managers, or a patch that does not fit the type.
    pub fn apply(&self, old: Option<&Object>, applied: &Applied) -> Result<Object, Status> {
        let live = match old {
            Some(old) => self.in_version(old)?,
            None => self.empty(),
        };
        let merged = self.with_manager(|m| m.apply(&live, &applied.patch, &self.manager, applied.force))?;
        Ok(merged)
    }
}

impl Applied {
    /// Decodes an apply's body.
    ///
    /// # Errors
    /// Malformed YAML, another kind or name than the URL's, or fields that strict validation refuses.
    pub fn decode(
        body: &Bytes,
        target: &Target,
        name: &str,
        force: bool,
        validation: FieldValidation,
        warnings: &Warnings,
    ) -> Result<Self, Status> {
        let unreadable = |e: &dyn std::fmt::Display| Status::bad_request(format!("error decoding YAML: {e}"));
        let json = schema::codec::yaml_to_json(body).map_err(|e| {
            let words = crate::words::yaml_words(&e.to_string());
            // Only the first document counts, as upstream; it is nothing when the text is empty.
            if body.trim_ascii().is_empty() {
                invalid_kind("", "")
            } else {
                unreadable(&format!("error converting YAML to JSON: {words}"))
            }
        })?;
        let tree: Value = serde_json::from_slice(&json).map_err(|e| unreadable(&e))?;
        if !tree.is_object() && !tree.is_null() {
            let words = crate::words::not_a(&tree, "map[string]interface {}");
            return Err(unreadable(&format!("error unmarshaling JSON: while decoding JSON: {words}")));
        }
        if tree.is_null() {
            return Err(invalid_kind("", ""));
        }
        let decoded = schema::codec::decode_untyped_yaml(body).map_err(|e| unreadable(&e))?;
        let mut patch = decoded.object;
        let gvk = &target.gvk;
        if patch.gvk() != *gvk {
            return Err(invalid_kind(patch.api_version(), patch.kind()));
        }
        if patch.metadata().is_some_and(|m| m.get("managedFields").is_some_and(|v| !v.is_null())) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        if patch.name().is_empty() {
            patch.set_meta_str("name", name);
        } else if patch.name() != name {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                patch.name()
            )));
        }
        // Unknown fields are found by the merge, whatever the validation.
        let strict = decoded.strict;
        match validation {
            FieldValidation::Strict if !strict.is_empty() => {
                let words = strict.join(", ");
                return Err(Status::bad_request(format!(
                    "error strict decoding YAML: error converting YAML to JSON: {words}"
                )));
            }
            FieldValidation::Warn => crate::decode::warn(strict, warnings),
            _ => {}
        }
        Ok(Self { patch, force })
    }
}

/// 400 for an apply of something else than the path names.
fn invalid_kind(api_version: &str, kind: &str) -> Status {
    let slash = if api_version.contains('/') { "" } else { "/" };
    Status::bad_request(format!("invalid object type: {slash}{api_version}, Kind={kind}"))
}

/// Applies a strategic merge patch to a built-in object's tree.
///
/// # Errors
/// A malformed patch.
pub(crate) fn strategic_merge(gvk: &GroupVersionKind, tree: &mut Value, patch: &Value) -> Result<(), Status> {
    let t = schema::codec::type_of(&gvk.api_version(), &gvk.kind).map_err(Status::internal)?;
    let (Value::Object(original), Value::Object(patch)) = (&*tree, patch) else {
        return Err(Status::bad_request("a strategic merge patch must be an object"));
    };
    let merged =
        managedfields::strategic::apply(original, patch, t).map_err(|e| crate::words::nameless(e.to_string()))?;
    *tree = Value::Object(merged);
    Ok(())
}
