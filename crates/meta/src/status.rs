//! `metav1.Status` as an error: code, reason, message and details as upstream's `apierrors` makes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field;
use crate::{GroupKind, GroupResource};

/// Upstream's `StatusReason` values.
pub mod reason {
    #![allow(missing_docs, reason = "the names are upstream's and say it all")]
    pub const UNAUTHORIZED: &str = "Unauthorized";
    pub const FORBIDDEN: &str = "Forbidden";
    pub const NOT_FOUND: &str = "NotFound";
    pub const ALREADY_EXISTS: &str = "AlreadyExists";
    pub const CONFLICT: &str = "Conflict";
    pub const GONE: &str = "Gone";
    pub const INVALID: &str = "Invalid";
    pub const SERVER_TIMEOUT: &str = "ServerTimeout";
    pub const STORE_READ_ERROR: &str = "StorageReadError";
    pub const TIMEOUT: &str = "Timeout";
    pub const TOO_MANY_REQUESTS: &str = "TooManyRequests";
    pub const BAD_REQUEST: &str = "BadRequest";
    pub const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";
    pub const NOT_ACCEPTABLE: &str = "NotAcceptable";
    pub const REQUEST_ENTITY_TOO_LARGE: &str = "RequestEntityTooLarge";
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "UnsupportedMediaType";
    pub const INTERNAL_ERROR: &str = "InternalError";
    pub const EXPIRED: &str = "Expired";
    pub const SERVICE_UNAVAILABLE: &str = "ServiceUnavailable";
}

/// An API failure (or, for deletes, success), in the shape clients read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// `Success` or `Failure`.
    pub status: String,
    /// One of [`reason`], may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<StatusDetails>>,
    /// `metadata.continue`: where an expired list may go on, inconsistently.
    #[serde(skip)]
    pub continue_token: String,
}

/// What the status is about.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Resource (or kind, in `Invalid`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Uid of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Single causes, such as the fields at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// When to try again, in seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

/// One cause.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// Machine-readable reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field at fault.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &i32) -> bool {
    *value == 0
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Status {
    /// A failure with the given code, reason and message.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, status: "Failure".into(), reason: reason.into(), message: message.into(), ..Self::default() }
    }

    /// The success that a delete answers.
    pub fn success(details: Option<StatusDetails>) -> Self {
        Self { code: 200, status: "Success".into(), details: details.map(Box::new), ..Self::default() }
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        let details = self.details_mut();
        details.name = name.into();
        details.group = resource.group.clone();
        details.kind = resource.resource.clone();
        self
    }

    /// The details, made when absent.
    pub fn details_mut(&mut self) -> &mut StatusDetails {
        self.details.get_or_insert_with(Box::default)
    }

    /// Adds the uid that the failure is about.
    pub fn with_uid(mut self, uid: &str) -> Self {
        self.details_mut().uid = uid.into();
        self
    }

    /// Adds a cause.
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let cause = StatusCause { reason: reason.into(), message: message.into(), field: field.into() };
        self.details_mut().causes.push(cause);
        self
    }

    /// 404 for an object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::failure(404, reason::NOT_FOUND, format!("{resource} \"{name}\" not found")).about(resource, name)
    }

    /// 404 for a path that leads nowhere, as the router answers it.
    pub fn unknown_path() -> Self {
        let mut status = Self::failure(404, reason::NOT_FOUND, "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::failure(409, reason::ALREADY_EXISTS, format!("{resource} \"{name}\" already exists"))
            .about(resource, name)
    }

    /// 409 after `generateName` found no free name.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str) -> Self {
        Self::failure(
            409,
            reason::ALREADY_EXISTS,
            format!(
                "{resource} \"{name}\" already exists, the server was not able to generate a unique name for the object"
            ),
        )
        .about(resource, name)
    }

    /// 409: somebody else wrote first, or a precondition failed.
    pub fn conflict(resource: &GroupResource, name: &str, cause: impl fmt::Display) -> Self {
        Self::failure(409, reason::CONFLICT, format!("Operation cannot be fulfilled on {resource} \"{name}\": {cause}"))
            .about(resource, name)
    }

    /// 409 of server-side apply, with one cause per conflicting field.
    pub fn apply_conflict(causes: Vec<StatusCause>, message: impl Into<String>) -> Self {
        let mut status = Self::failure(409, reason::CONFLICT, message);
        status.details_mut().causes = causes;
        status
    }

    /// 422: the object fails validation.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &[field::Error]) -> Self {
        let text = field::aggregate(errors);
        let mut status = Self::failure(422, reason::INVALID, format!("{kind} \"{name}\" is invalid: {text}"));
        let details = status.details_mut();
        details.name = name.into();
        details.group = kind.group.clone();
        details.kind = kind.kind.clone();
        details.causes = errors.iter().map(field::Error::cause).collect();
        status
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, reason::BAD_REQUEST, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::failure(401, reason::UNAUTHORIZED, "Unauthorized")
    }

    /// 403 on an object or collection, from admission or authorization.
    pub fn forbidden(resource: &GroupResource, name: &str, cause: impl fmt::Display) -> Self {
        let message = if resource.resource.is_empty() {
            format!("forbidden: {cause}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {cause}")
        } else {
            format!("{resource} \"{name}\" is forbidden: {cause}")
        };
        Self::failure(403, reason::FORBIDDEN, message).about(resource, name)
    }

    /// 405.
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        let mut status = Self::failure(
            405,
            reason::METHOD_NOT_ALLOWED,
            format!("{verb} is not supported on resources of kind \"{resource}\""),
        );
        let details = status.details_mut();
        details.group = resource.group.clone();
        details.kind = resource.resource.clone();
        status
    }

    /// 405 where the resource has no such verb.
    pub fn method_not_allowed() -> Self {
        let mut status = Self::failure(
            405,
            reason::METHOD_NOT_ALLOWED,
            "the server does not allow this method on the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// 406.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::failure(
            406,
            reason::NOT_ACCEPTABLE,
            format!("only the following media types are accepted: {}", accepted.join(", ")),
        )
    }

    /// 410: the resource version is too old (reason `Expired`).
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, reason::EXPIRED, message)
    }

    /// 410: gone for good.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, reason::GONE, message)
    }

    /// 413.
    pub fn request_too_large(message: impl fmt::Display) -> Self {
        Self::failure(413, reason::REQUEST_ENTITY_TOO_LARGE, format!("Request entity too large: {message}"))
    }

    /// 415.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::failure(
            415,
            reason::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 429, with the seconds to wait.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        let mut status = Self::failure(429, reason::TOO_MANY_REQUESTS, message);
        status.details_mut().retry_after_seconds = retry_after_seconds;
        status
    }

    /// 500.
    pub fn internal(cause: impl fmt::Display) -> Self {
        let mut status = Self::failure(500, reason::INTERNAL_ERROR, format!("Internal error occurred: {cause}"));
        status.details_mut().causes.push(StatusCause { message: cause.to_string(), ..StatusCause::default() });
        status
    }

    /// 501: named honestly as absent.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::failure(501, "NotImplemented", message)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, reason::SERVICE_UNAVAILABLE, message)
    }

    /// 504: the request ran out of time.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: i32) -> Self {
        let mut status = Self::failure(504, reason::TIMEOUT, format!("Timeout: {message}"));
        status.details_mut().retry_after_seconds = retry_after_seconds;
        status
    }

    /// 504: the server could not do it now; try again.
    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after_seconds: i32) -> Self {
        let mut status = Self::failure(
            500,
            reason::SERVER_TIMEOUT,
            format!(
                "The {operation} operation against {resource} could not be completed at this time, please try again."
            ),
        )
        .about(resource, operation);
        status.details_mut().retry_after_seconds = retry_after_seconds;
        status
    }

    /// Whether this is the 404 of an object.
    pub fn is_not_found(&self) -> bool {
        self.reason == reason::NOT_FOUND
    }

    /// Whether the name was taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason == reason::ALREADY_EXISTS
    }

    /// Whether a write lost against another.
    pub fn is_conflict(&self) -> bool {
        self.reason == reason::CONFLICT
    }

    /// Whether a resource version was too old.
    pub fn is_expired(&self) -> bool {
        self.reason == reason::EXPIRED || self.reason == reason::GONE
    }

    /// Whether access was denied.
    pub fn is_forbidden(&self) -> bool {
        self.reason == reason::FORBIDDEN
    }

    /// Whether the object failed validation.
    pub fn is_invalid(&self) -> bool {
        self.reason == reason::INVALID
    }

    /// The object form, `kind: Status` included.
    pub fn to_value(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            map.insert("kind".into(), "Status".into());
            map.insert("apiVersion".into(), "v1".into());
            let mut metadata = serde_json::Map::new();
            if !self.continue_token.is_empty() {
                metadata.insert("continue".into(), self.continue_token.clone().into());
            }
            map.insert("metadata".into(), serde_json::Value::Object(metadata));
        }
        value
    }
}
