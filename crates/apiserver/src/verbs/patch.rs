//! patch: JSON patch, merge patch, strategic merge patch, apply.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Response, StatusCode};
use meta::{Object, Status};
use registry::{KindRow, Strategy, UpdateOptions, Updater, Warnings};
use serde_json::Value;
use wire::Body;

use super::{in_version, served_to_hub};
use crate::chain::Call;
use crate::decode::{self, FieldValidation};
use crate::ownership::{Applied, Tracker};
use crate::respond;
use crate::route::Target;

/// A kind of patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

const ALL: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// The kind of patch that the content type names.
pub(crate) fn patch_kind(call: &Call, row: &KindRow) -> Result<PatchKind, Status> {
    let custom = row.custom.is_some();
    let accepted: &[&str] = if custom { &CUSTOM } else { &ALL };
    match decode::content_type(call.headers()).as_str() {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" if !custom => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        other => Err(Status::unsupported_media_type(other, accepted)),
    }
}

/// Patches a tree in place; `kind` must not be [`PatchKind::Apply`].
pub(crate) fn apply_patch(
    kind: PatchKind,
    tree: &mut Value,
    patch: &Bytes,
    gvk: &meta::GroupVersionKind,
) -> Result<(), Status> {
    let unreadable = |e: &dyn std::fmt::Display| Status::bad_request(format!("error decoding patch: {e}"));
    match kind {
        PatchKind::Json => meta::patch::json_patch(tree, patch).map_err(|e| patch_failed(&e)),
        PatchKind::Merge | PatchKind::Strategic | PatchKind::Apply => {
            let patch: Value = match serde_json::from_slice(patch) {
                Ok(patch) => patch,
                Err(_) => {
                    // As upstream, a patch may be YAML.
                    let json = schema::codec::yaml_to_json(patch).map_err(|e| unreadable(&e))?;
                    serde_json::from_slice(&json).map_err(|e| unreadable(&e))?
                }
            };
            if !patch.is_object() {
                return Err(unreadable(&"json: cannot unmarshal value into Go value of type map[string]interface {}"));
            }
            if kind == PatchKind::Strategic {
                return crate::ownership::strategic_merge(gvk, tree, &patch);
            }
            meta::patch::merge_patch(tree, &patch);
            Ok(())
        }
    }
}

fn patch_failed(error: &meta::patch::PatchError) -> Status {
    match error {
        meta::patch::PatchError::Malformed(_) => Status::bad_request(error.to_string()),
        _ => Status::failure(
            422,
            meta::reason::INVALID,
            format!("the server rejected our request due to an error in our request: {error}"),
        ),
    }
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
        apply_patch(self.kind, &mut tree, &self.patch, gvk)?;
        let Some(object) = Object::from_value(tree) else {
            return Err(Status::bad_request("a patch must leave an object"));
        };
        self.accept(object)
    }

    /// Brings a patched tree into normal form, with the strictness asked for.
    fn accept(&self, mut object: Object) -> Result<Object, Status> {
        let row = self.target.row();
        let gvk = &self.target.gvk;
        if object.kind() != gvk.kind || object.api_version() != gvk.api_version() {
            return Err(Status::bad_request(format!(
                "the patched object has apiVersion {:?} and kind {:?}, expected {:?} and {:?}",
                object.api_version(),
                object.kind(),
                gvk.api_version(),
                gvk.kind
            )));
        }
        let strict = match &row.custom {
            Some(custom) => custom.accept(&mut object, &gvk.version)?,
            None => {
                let t = schema::codec::type_of(&gvk.api_version(), &gvk.kind).map_err(Status::internal)?;
                let decoded = schema::codec::decode_value_as(t, object.body).map_err(|e| {
                    Status::failure(
                        422,
                        meta::reason::INVALID,
                        format!("{} in version {:?} cannot be handled as a {}: {e}", gvk.kind, gvk.version, gvk.kind),
                    )
                })?;
                object = decoded.object;
                object.set_gvk(gvk);
                decoded.strict
            }
        };
        self.validation.judge(gvk, strict, self.warnings)?;
        served_to_hub(row, object)
    }
}

#[async_trait]
impl Updater for Patch<'_> {
    async fn next(&self, old: Option<&Object>) -> Result<Object, Status> {
        if let Some(applied) = &self.applied {
            let merged = self.tracker.apply(old, applied)?;
            let managed = merged.metadata().and_then(|m| m.get("managedFields")).cloned();
            let mut object = self.accept(merged)?;
            if let Some(managed) = managed {
                object.metadata_mut().insert("managedFields".into(), managed);
            }
            return Ok(object);
        }
        let Some(old) = old else { return Err(self.target.resource.not_found(self.name)) };
        let mut object = self.patched(old)?;
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
    let validation = FieldValidation::parse(call.query.get("fieldValidation"))?;
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
    let options = UpdateOptions { strategy, create: kind == PatchKind::Apply, main };
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
