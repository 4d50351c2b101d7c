//! patch: JSON patch, merge patch, strategic merge patch, apply.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Response, StatusCode};
use meta::patch::PatchError;
use meta::{Object, Status};
use registry::{KindRow, Strategy, UpdateOptions, Updater, Warnings};
use serde_json::{Map, Value};
use wire::Body;

use super::{in_version, served_to_hub};
use crate::chain::Call;
use crate::decode::{self, FieldValidation};
use crate::ownership::{Applied, Tracker};
use crate::respond;
use crate::route::Target;
use crate::words;

/// A kind of patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

const CUSTOM: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// The kind of patch that the content type names.
pub(crate) fn patch_kind(call: &Call, row: &KindRow) -> Result<PatchKind, Status> {
    let custom = row.custom.is_some();
    match decode::content_type(call.headers()).as_str() {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" if !custom => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        _ if custom => Err(Status::unsupported_media_type(&CUSTOM)),
        // Upstream's routes say it before its handlers could.
        _ => Err(Status::failure(415, meta::reason::UNSUPPORTED_MEDIA_TYPE, "415: Unsupported Media Type")),
    }
}

/// Patches a tree in place; `kind` must not be [`PatchKind::Apply`]. Gives what strict validation says of the patch itself.
pub(crate) fn apply_patch(
    kind: PatchKind,
    tree: &mut Value,
    patch: &Bytes,
    gvk: &meta::GroupVersionKind,
) -> Result<Vec<String>, Status> {
    // Of a strategic merge patch upstream says only what is wrong with it.
    let prefix = if kind == PatchKind::Strategic { "" } else { "error decoding patch: " };
    let unreadable = |e: &dyn std::fmt::Display| Status::bad_request(format!("{prefix}{e}"));
    let (value, strict) = words::read_json(patch).map_err(|e| unreadable(&e))?;
    match kind {
        PatchKind::Json => json_patch(tree, patch, &value).map(|unknown| [strict, unknown].concat()),
        PatchKind::Strategic => {
            let value = if value.is_null() { Value::Object(Map::new()) } else { value };
            if !value.is_object() {
                return Err(unreadable(&words::not_a(&value, "map[string]interface {}")));
            }
            crate::ownership::strategic_merge(gvk, tree, &value)?;
            Ok(strict)
        }
        PatchKind::Merge | PatchKind::Apply => {
            if value.is_null() {
                return Err(Status::bad_request("Invalid JSON Patch"));
            }
            if !value.is_object() {
                return Err(unreadable(&words::not_a(&value, "map[string]interface {}")));
            }
            meta::patch::merge_patch(tree, &value);
            Ok(strict)
        }
    }
}

/// Fields of one operation of a JSON patch.
const OPERATION: [&str; 4] = ["op", "path", "from", "value"];

fn json_patch(tree: &mut Value, patch: &Bytes, value: &Value) -> Result<Vec<String>, Status> {
    let unreadable = |value: &Value, wanted: &str| {
        Status::bad_request(format!("error decoding patch: {}", words::not_a(value, wanted)))
    };
    let mut unknown = Vec::new();
    match value {
        Value::Null => {}
        Value::Array(operations) => {
            for (at, operation) in operations.iter().enumerate() {
                let Value::Object(map) = operation else { return Err(unreadable(operation, "handlers.jsonPatchOp")) };
                let odd = map.keys().filter(|key| !OPERATION.contains(&key.as_str()));
                unknown.extend(odd.map(|key| format!("json patch unknown field {:?}", format!("[{at}].{key}"))));
            }
        }
        other => return Err(unreadable(other, "[]handlers.jsonPatchOp")),
    }
    meta::patch::json_patch(tree, patch).map_err(|error| match error {
        PatchError::Malformed(text) => Status::bad_request(format!("error decoding patch: {text}")),
        PatchError::TooManyOperations(_) => Status::request_too_large(error),
        PatchError::DoesNotApply(text) => {
            let said = "the server rejected our request due to an error in our request";
            let mut status = Status::failure(422, meta::reason::INVALID, said);
            let cause =
                meta::StatusCause { reason: "UnexpectedServerResponse".into(), message: text, ..Default::default() };
            status.details.get_or_insert_with(Default::default).causes.push(cause);
            status
        }
    })?;
    Ok(unknown)
}

struct Patch<'a> {
    kind: PatchKind,
    patch: Bytes,
    target: &'a Target,
    tracker: Tracker<'a>,
    validation: FieldValidation,
    warnings: &'a Warnings,
    name: &'a str,
    /// Decoded once.
    applied: Option<Applied>,
}

impl Patch<'_> {
    fn patched(&self, old: &Object) -> Result<Object, Status> {
        let row = self.target.row();
        let gvk = &self.target.gvk;
        let mut tree = Value::from(in_version(row, old, gvk)?);
        let strict = apply_patch(self.kind, &mut tree, &self.patch, gvk)?;
        let Some(mut object) = Object::from_value(tree) else {
            return Err(Status::bad_request("a patch must leave an object"));
        };
        // A strategic merge cannot change what the object is; the other two may only leave it out.
        if self.kind == PatchKind::Strategic || object.kind().is_empty() {
            object.body.insert("kind".into(), gvk.kind.clone().into());
        }
        if self.kind == PatchKind::Strategic || object.api_version().is_empty() {
            object.body.insert("apiVersion".into(), gvk.api_version().into());
        }
        self.accept(object, strict, &|| self.shown(old))
    }

    /// What upstream shows of a patch whose outcome is refused: made again, since it is seldom wanted.
    fn shown(&self, old: &Object) -> String {
        if self.kind == PatchKind::Strategic {
            return words::read_json(&self.patch).map_or_else(|e| e, |(value, _)| words::go_value(&value));
        }
        let Ok(old) = in_version(self.target.row(), old, &self.target.gvk) else { return String::new() };
        let mut tree = Value::from(old);
        match apply_patch(self.kind, &mut tree, &self.patch, &self.target.gvk) {
            Ok(_) => tree.to_string(),
            Err(_) => String::new(),
        }
    }

    /// Brings a patched tree into normal form, with the strictness asked for.
    fn accept(
        &self,
        mut object: Object,
        mut strict: Vec<String>,
        shown: &dyn Fn() -> String,
    ) -> Result<Object, Status> {
        let row = self.target.row();
        let gvk = &self.target.gvk;
        if object.kind() != gvk.kind || object.api_version() != gvk.api_version() {
            let cause = words::unregistered(object.api_version(), object.kind());
            return Err(words::invalid_patch(&shown(), &cause));
        }
        let found = match &row.custom {
            Some(custom) => custom.accept(&mut object, &gvk.version)?,
            None => {
                let t = schema::codec::type_of(&gvk.api_version(), &gvk.kind).map_err(Status::internal)?;
                let decoded =
                    schema::codec::decode_value_as(t, object.body).map_err(|e| words::invalid_patch(&shown(), &e))?;
                object = decoded.object;
                object.set_gvk(gvk);
                decoded.strict
            }
        };
        strict.extend(found);
        self.validation.judge_patch(shown, strict, self.warnings)?;
        self.check_identity(&object)?;
        served_to_hub(row, object)
    }

    fn check_identity(&self, object: &Object) -> Result<(), Status> {
        let wanted = self.name;
        match object.name() {
            name if name == wanted => {}
            "" => return Err(nameless(wanted)),
            name => {
                return Err(Status::bad_request(format!(
                    "the name of the object ({name}) does not match the name on the URL ({wanted})"
                )));
            }
        }
        Ok(())
    }
}

/// 400 for an object without its name.
pub(super) fn nameless(wanted: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
    ))
}

/// As upstream, whose patches have no precondition on the uid: another one is a change of what cannot change.
fn check_uid(row: &KindRow, old: Option<&Object>, new: &Object) -> Result<(), Status> {
    let Some(old) = old.filter(|old| !new.uid().is_empty() && old.uid() != new.uid()) else { return Ok(()) };
    let path = meta::field::Path::new("metadata").child("uid");
    let error = meta::field::Error::invalid(&path, new.uid(), "field is immutable");
    Err(Status::invalid(
        &meta::GroupKind::new(row.group.as_str(), row.kind.as_str()),
        old.name(),
        &[error.clone(), error],
    ))
}

#[async_trait]
impl Updater for Patch<'_> {
    async fn next(&self, old: Option<&Object>) -> Result<Object, Status> {
        if let Some(applied) = &self.applied {
            let merged = self.tracker.apply(old, applied)?;
            let managed = merged.metadata().and_then(|m| m.get("managedFields")).cloned();
            let mut object = self.accept(merged, Vec::new(), &String::new)?;
            check_uid(self.target.row(), old, &object)?;
            if let Some(managed) = managed {
                object.metadata_mut().insert("managedFields".into(), managed);
            }
            return Ok(object);
        }
        let Some(old) = old else { return Err(self.target.resource.not_found(self.name)) };
        let mut object = self.patched(old)?;
        check_uid(self.target.row(), Some(old), &object)?;
        self.tracker.track(Some(old), &mut object)?;
        Ok(object)
    }
}

/// PATCH of an object or an object-like subresource.
pub(crate) async fn patch(
    call: &mut Call,
    target: &Target,
    strategy: &dyn Strategy,
    main: bool,
) -> Result<Response<Body>, Status> {
    let row = target.row();
    let negotiated = target.negotiate(call)?;
    let kind = patch_kind(call, row)?;
    let request = target.request(call, "PatchOptions")?;
    let force = call.query.flag("force");
    check_options(call, kind)?;
    let validation = FieldValidation::parse(call.query.get("fieldValidation"), "PatchOptions")?;
    let body = decode::read(call.take_body()).await?;
    let tracker = Tracker::new(call, target, strategy);
    let applied = match kind {
        PatchKind::Apply => {
            Some(Applied::decode(&body, target, &call.info.name, force, validation, &request.warnings)?)
        }
        _ => None,
    };
    let updater = Patch {
        kind,
        patch: body,
        target,
        tracker,
        validation,
        warnings: &request.warnings,
        name: &call.info.name,
        applied,
    };
    let options = UpdateOptions { strategy, create: kind == PatchKind::Apply, main, admitted: false };
    let updated = target.resource.update(&request, &call.info.name, &updater, options).await?;
    let code = if updated.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = respond::raw_response(call.headers(), code, &target.form(call, &negotiated), &updated.raw)?;
    respond::add_warnings(&mut response, request.warnings.take());
    Ok(response)
}

fn check_options(call: &Call, kind: PatchKind) -> Result<(), Status> {
    let invalid = |field: &str, error: fn(&meta::field::Path) -> meta::field::Error| {
        let error = error(&meta::field::Path::new(field));
        Err(Status::invalid(&meta::GroupKind::new("meta.k8s.io", "PatchOptions"), "", &[error]))
    };
    if kind == PatchKind::Apply && call.query.get("fieldManager").is_empty() {
        return invalid("fieldManager", |p| meta::field::Error::required(p, "is required for apply patch"));
    }
    if kind != PatchKind::Apply && call.query.has("force") {
        return invalid("force", |p| meta::field::Error::forbidden(p, "may not be specified for non-apply patch"));
    }
    Ok(())
}
