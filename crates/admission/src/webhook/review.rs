//! AdmissionReview: the question, and what may be made of the answer.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meta::{GroupVersionKind, GroupVersionResource, Object, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::matching::{Invocation, namespace_of};
use crate::plugin::Request;

/// A question with its id.
pub(super) struct Question {
    pub(super) uid: String,
    pub(super) api_version: String,
    pub(super) body: Value,
}

/// An answer that fits its question.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) patch: Option<Vec<u8>>,
    pub(super) status: Option<Status>,
    pub(super) warnings: Vec<String>,
    /// Facts for the audit event, by the webhook's keys.
    pub(super) annotations: BTreeMap<String, String>,
}

fn kind_of(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn resource_of(resource: &GroupVersionResource) -> Value {
    json!({"group": resource.group, "version": resource.version, "resource": resource.resource})
}

/// An object as JSON, `null` when there is none.
fn tree(object: Option<Object>) -> Value {
    object.map_or(Value::Null, |o| Value::Object(o.body))
}

/// An object as a webhook or policy wants to see it, without a copy when it is in that version already.
///
/// # Errors
/// The conversion failed.
pub(crate) fn seen<'o>(
    request: &Request<'_>,
    object: Option<&'o Object>,
    kind: &GroupVersionKind,
) -> Result<Option<Cow<'o, Object>>, Status> {
    match object {
        Some(object) if object.kind() != kind.kind || object.gvk() == *kind => Ok(Some(Cow::Borrowed(object))),
        object => Ok(converted(request, object, kind)?.map(Cow::Owned)),
    }
}

/// Converts an object to the kind that a webhook wants; objects of other kinds (options of a connection) stay.
///
/// # Errors
/// The conversion failed.
pub(crate) fn converted(
    request: &Request<'_>,
    object: Option<&Object>,
    kind: &GroupVersionKind,
) -> Result<Option<Object>, Status> {
    let Some(object) = object else { return Ok(None) };
    let mut object = object.clone();
    let resource = request.registry.and_then(|r| r.get(&request.resource.group, &request.resource.resource));
    if let Some(resource) = resource
        && object.kind() == resource.row.kind
        && kind.kind == resource.row.kind
    {
        resource.row.convert_to(&mut object, kind)?;
    }
    Ok(Some(object))
}

/// The request as reviews and expressions see it, without the objects.
pub(crate) fn request_of(request: &Request<'_>, invocation: &Invocation, object: Option<&Object>) -> Value {
    let name = match request.name {
        "" => object.map(Object::name).unwrap_or_default(),
        name => name,
    };
    let user = request.user;
    let mut question = json!({
        "kind": kind_of(&invocation.kind),
        "resource": resource_of(&invocation.resource),
        "requestKind": kind_of(request.kind),
        "requestResource": resource_of(request.resource),
        "operation": request.operation.as_str(),
        "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra},
        "dryRun": request.dry_run,
        "options": request.options,
    });
    for (field, value) in [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", name),
        ("namespace", namespace_of(request, object)),
    ] {
        if !value.is_empty() {
            question[field] = json!(value);
        }
    }
    question
}

impl Question {
    /// Builds the review in the first version that the webhook understands.
    ///
    /// # Errors
    /// It understands none of ours.
    pub(super) fn new(
        request: &Request<'_>,
        invocation: &Invocation,
        versions: &[String],
        object: Option<Object>,
        old: Option<Object>,
    ) -> Result<Self, String> {
        let known = versions.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1"));
        let version = known.ok_or("webhook does not accept known AdmissionReview versions (v1, v1beta1)")?;
        let api_version = format!("admission.k8s.io/{version}");
        let uid = rt::rand::uid();
        let mut question = request_of(request, invocation, object.as_ref());
        question["uid"] = json!(uid);
        question["object"] = tree(object);
        question["oldObject"] = tree(old);
        let body = json!({"apiVersion": api_version, "kind": "AdmissionReview", "request": question});
        Ok(Self { uid, api_version, body })
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// It does not fit the question or the rules of its version, in upstream's words.
    pub(super) fn read(&self, answer: &Value, mutating: bool) -> Result<Answer, String> {
        let review: Review = serde_json::from_value(answer.clone()).map_err(|e| e.to_string())?;
        let gvk = |api_version: &str, kind: &str| match api_version.split_once('/') {
            Some((group, version)) => format!("{group}/{version}, Kind={kind}"),
            None => format!("/{api_version}, Kind={kind}"),
        };
        let response = review.response.ok_or("webhook response was absent")?;
        let strict = self.api_version.ends_with("/v1");
        if strict && response.uid != self.uid {
            return Err(format!("expected response.uid={:?}, got {:?}", self.uid, response.uid));
        }
        if strict && (review.api_version != self.api_version || review.kind != "AdmissionReview") {
            let (want, got) = (gvk(&self.api_version, "AdmissionReview"), gvk(&review.api_version, &review.kind));
            return Err(format!("expected webhook response of {want}, got {got}"));
        }
        let patch = response.patch.filter(|p| !p.is_empty());
        if strict {
            check_patch(patch.is_some(), response.patch_type.as_deref(), mutating)?;
        }
        let patch = match patch.filter(|_| mutating) {
            None => None,
            Some(text) => Some(STANDARD.decode(text).map_err(|e| e.to_string())?),
        };
        Ok(Answer {
            allowed: response.allowed,
            patch,
            status: response.status,
            warnings: response.warnings.unwrap_or_default(),
            annotations: response.audit_annotations.unwrap_or_default(),
        })
    }
}

fn check_patch(patch: bool, kind: Option<&str>, mutating: bool) -> Result<(), String> {
    match (mutating, patch, kind) {
        (false, true, _) => Err("validating webhook may not return response.patch".into()),
        (false, _, Some(_)) => Err("validating webhook may not return response.patchType".into()),
        (true, true, None) => Err("webhook returned response.patch but not response.patchType".into()),
        (true, false, Some(_)) => Err("webhook returned response.patchType but not response.patch".into()),
        (true, true, Some(kind)) if kind != "JSONPatch" => {
            Err(format!("webhook returned invalid response.patchType of {kind:?}"))
        }
        _ => Ok(()),
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Review {
    api_version: String,
    kind: String,
    response: Option<Response>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Response {
    uid: String,
    allowed: bool,
    patch: Option<String>,
    patch_type: Option<String>,
    status: Option<Status>,
    warnings: Option<Vec<String>>,
    audit_annotations: Option<BTreeMap<String, String>>,
}

/// The refusal that a webhook's "no" becomes.
pub(super) fn rejection(webhook: &str, status: Option<Status>) -> Status {
    let denied = format!("admission webhook {webhook:?} denied the request");
    let mut status = status.unwrap_or_default();
    if status.code < 400 {
        status.code = 400;
    }
    if matches!(status.status.as_str(), "" | "Success") {
        status.status = "Failure".into();
    }
    status.message = match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    status
}
