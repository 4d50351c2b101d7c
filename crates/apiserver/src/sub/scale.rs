//! The scale subresource.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Response, StatusCode};
use meta::selector::LabelSelector;
use meta::{GroupVersionKind, Object, Status};
use registry::{ScalePaths, UpdateOptions, Updater};
use serde_json::{Value, json};
use wire::Body;

use crate::chain::Call;
use crate::decode::{self, FieldValidation};
use crate::ownership::Tracker;
use crate::respond;
use crate::route::Target;
use crate::verbs::{PatchKind, apply_patch, patch_kind};

fn at<'a>(object: &'a Object, path: &[String]) -> Option<&'a Value> {
    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
    object.get(&steps)
}

fn scale_kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

/// The parent as a Scale.
fn scale_of(object: &Object, paths: &ScalePaths) -> Object {
    let mut scale = Object::new(&scale_kind());
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        scale.set_meta_str(field, object.meta_str(field));
    }
    let spec = at(object, &paths.spec_replicas).and_then(Value::as_i64).unwrap_or(0);
    let current = at(object, &paths.status_replicas).and_then(Value::as_i64).unwrap_or(0);
    scale.body.insert("spec".into(), if spec == 0 { json!({}) } else { json!({ "replicas": spec }) });
    let mut status = json!({ "replicas": current });
    let selector = match paths.selector.as_ref().and_then(|p| at(object, p)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(map)) if map.contains_key("matchLabels") || map.contains_key("matchExpressions") => {
            let value = Value::Object(map.clone());
            LabelSelector::from_value(Some(&value)).map(|s| s.to_string()).unwrap_or_default()
        }
        Some(Value::Object(map)) => {
            let pairs = map.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned()));
            LabelSelector::from_pairs(pairs).to_string()
        }
        _ => String::new(),
    };
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    scale.body.insert("status".into(), status);
    scale
}

enum Change {
    Put(Box<Object>),
    Patch(PatchKind, Bytes),
}

struct Rescale<'a> {
    change: Change,
    paths: &'a ScalePaths,
    target: &'a Target,
    tracker: Tracker<'a>,
    name: &'a str,
    validation: FieldValidation,
    warnings: &'a registry::Warnings,
}

impl Rescale<'_> {
    fn wanted(&self, old: &Object) -> Result<Object, Status> {
        match &self.change {
            Change::Put(scale) => Ok((**scale).clone()),
            Change::Patch(kind, patch) => {
                let gvk = scale_kind();
                let mut tree = Value::from(scale_of(old, self.paths));
                let strict = if *kind == PatchKind::Apply {
                    // An apply's text may be YAML.
                    let json = schema::codec::yaml_to_json(patch)
                        .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
                    apply_patch(PatchKind::Merge, &mut tree, &json.into(), &gvk)?
                } else {
                    apply_patch(*kind, &mut tree, patch, &gvk)?
                };
                decode::warn(strict, self.warnings);
                let bytes = serde_json::to_vec(&tree).map_err(Status::internal)?;
                let decoded = decode::built_in(&bytes, crate::negotiate::Media::Json, &gvk)?;
                self.validation.judge(&gvk, decoded.strict, self.warnings)?;
                Ok(decoded.object)
            }
        }
    }
}

#[async_trait]
impl Updater for Rescale<'_> {
    async fn next(&self, old: Option<&Object>) -> Result<Object, Status> {
        let Some(old) = old else { return Err(self.target.resource.not_found(self.name)) };
        let scale = self.wanted(old)?;
        let replicas = scale.get_i64(&["spec", "replicas"]).unwrap_or(0);
        if replicas < 0 {
            let path = meta::field::Path::new("spec").child("replicas");
            let error = meta::field::Error::invalid(&path, replicas, "must be greater than or equal to 0");
            return Err(Status::invalid(&meta::GroupKind::new("autoscaling", "Scale"), self.name, &[error]));
        }
        let mut object = old.clone();
        let version = scale.resource_version();
        object.set_meta_str("resourceVersion", if version.is_empty() { old.resource_version() } else { version });
        if !scale.uid().is_empty() {
            object.set_meta_str("uid", scale.uid());
        }
        let steps: Vec<&str> = self.paths.spec_replicas.iter().map(String::as_str).collect();
        object.set(&steps, replicas.into());
        self.tracker.track(Some(old), &mut object)?;
        Ok(object)
    }
}

/// GET, PUT and PATCH of NAME/scale.
pub(crate) async fn scale(call: &mut Call, target: &Target, paths: &ScalePaths) -> Result<Response<Body>, Status> {
    let negotiated = crate::negotiate::Negotiated::choose(call.headers(), false, true)?;
    let row = target.row();
    if call.info.verb == "get" {
        let object = target.resource.get_object(&target.namespace, &call.info.name).await?;
        return respond::tree_response(call.headers(), StatusCode::OK, &negotiated, &scale_of(&object, paths));
    }
    let (options, patching) = match call.info.verb {
        "update" => ("UpdateOptions", false),
        "patch" => ("PatchOptions", true),
        _ => return Err(Status::method_not_allowed()),
    };
    let request = target.request(call, options)?;
    let validation = FieldValidation::parse(call.query.get("fieldValidation"), options)?;
    let body = decode::read(call.take_body()).await?;
    let change = if patching {
        Change::Patch(patch_kind(call, row)?, body)
    } else {
        let decoded = decode::built_in(&body, decode::media(call.headers())?, &scale_kind())?;
        validation.judge(&scale_kind(), decoded.strict, &request.warnings)?;
        if decoded.object.kind() != "Scale" {
            return Err(crate::words::unconvertible(&decoded.object.gvk(), &scale_kind()));
        }
        Change::Put(Box::new(decoded.object))
    };
    let strategy = row.strategy.clone();
    let updater = Rescale {
        change,
        paths,
        target,
        tracker: Tracker::new(call, target, &*strategy),
        name: &call.info.name,
        validation,
        warnings: &request.warnings,
    };
    let options = UpdateOptions { strategy: &*strategy, create: false, main: false, admitted: false };
    let updated = target.resource.update(&request, &call.info.name, &updater, options).await?;
    let object = registry::decode_hub(row, &updated.raw)?;
    let mut response = respond::tree_response(call.headers(), StatusCode::OK, &negotiated, &scale_of(&object, paths))?;
    respond::add_warnings(&mut response, request.warnings.take());
    Ok(response)
}
