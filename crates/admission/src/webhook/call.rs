//! Calling one webhook.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meta::{Object, Status};
use rt::time::Instant;
use serde_json::Value;

use super::config::Hook;
use super::matching::Invocation;
use super::review::{Answer, Question, converted, rejection};
use crate::metrics::{Asked, Step, metrics};
use crate::plugin::Request;

/// Where a webhook is, and whom to trust there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Host of the URL, or `name.namespace.svc`.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// The Service behind it: namespace and name.
    pub service: Option<(String, String)>,
    /// PEM certificates to trust; empty for none.
    pub ca: String,
}

/// A call failed; the text completes `failed calling webhook "x": `.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub String);

/// Posts a review and gives the answer.
#[async_trait]
pub trait Caller: Send + Sync {
    /// Posts `review` and reads the answer within the time.
    ///
    /// # Errors
    /// No connection, no answer in time, or no JSON.
    async fn call(&self, target: &Target, review: &Value, timeout: Duration) -> Result<Value, CallError>;
}

impl Target {
    /// The target of a hook's client configuration.
    ///
    /// # Errors
    /// The URL is no HTTPS URL, or the CA bundle is malformed.
    pub(super) fn of(hook: &Hook) -> Result<Self, CallError> {
        let client = &hook.client;
        let bundle = client.ca_bundle.as_deref().unwrap_or_default();
        let ca = STANDARD.decode(bundle).map_err(|e| CallError(format!("could not get REST client: caBundle: {e}")))?;
        let ca = String::from_utf8_lossy(&ca).into_owned();
        if let Some(service) = &client.service {
            let path = match service.path.as_str() {
                path if path.starts_with('/') => path.to_owned(),
                path => format!("/{path}"),
            };
            return Ok(Self {
                host: format!("{}.{}.svc", service.name, service.namespace),
                port: service.port.unwrap_or(443),
                path,
                service: Some((service.namespace.clone(), service.name.clone())),
                ca,
            });
        }
        let url = client.url.as_deref().unwrap_or_default();
        let wrong = |cause: &str| CallError(format!("could not get REST client: Unparsable URL: {url}: {cause}"));
        let uri: http::Uri = url.parse().map_err(|_| wrong("malformed"))?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong("scheme must be https"));
        }
        let host = uri.host().ok_or_else(|| wrong("no host"))?.trim_matches(['[', ']']).to_owned();
        let path = uri.path_and_query().map(ToString::to_string).unwrap_or_else(|| "/".into());
        Ok(Self { host, port: uri.port_u16().unwrap_or(443), path, service: None, ca })
    }

    /// The URL as error messages show it.
    pub fn url(&self) -> String {
        format!("https://{}:{}{}", self.host, self.port, self.path)
    }
}

/// How a call ended that gave no "yes".
enum Failure {
    /// The webhook said no.
    Rejected(Status),
    /// It could not be asked; the failure policy decides.
    Call(String),
    /// It cannot be asked at all.
    Refused(Status),
}

impl Failure {
    fn asked(&self) -> Asked {
        match self {
            Self::Rejected(status) => Asked::Rejected(status.code),
            Self::Call(_) => Asked::Failed,
            Self::Refused(_) => Asked::Refused,
        }
    }
}

/// Asks one webhook and counts it. `None` is a failure that does not matter; `place` names the call in the audit event.
///
/// # Errors
/// What the client gets.
pub(super) async fn invoke(
    caller: &dyn Caller,
    hook: &Hook,
    request: &Request<'_>,
    invocation: &Invocation,
    object: Option<Object>,
    (step, place): (Step, &str),
) -> Result<Option<Answer>, Status> {
    let started = Instant::now();
    let outcome = ask(caller, hook, request, invocation, object, step == Step::Admit).await;
    let (asked, open) = match &outcome {
        Ok(_) => (Asked::Allowed, false),
        Err(failure) => (failure.asked(), hook.fail_open && matches!(failure, Failure::Call(_))),
    };
    metrics().webhook(&hook.name, step, request.operation, asked, open, started.elapsed());
    match outcome {
        Ok(answer) => Ok(Some(answer)),
        Err(Failure::Rejected(status) | Failure::Refused(status)) => Err(status),
        Err(Failure::Call(cause)) if open => {
            tracing::warn!(webhook = hook.name, cause, "webhook failed, failing open");
            let part = if step == Step::Admit { "mutation" } else { "validating" };
            let key = format!("failed-open.{part}.webhook.admission.k8s.io/{place}");
            request.warnings.annotate(&key, &hook.name);
            Ok(None)
        }
        Err(Failure::Call(cause)) => Err(Status::internal(format!("failed calling webhook {:?}: {cause}", hook.name))),
    }
}

/// Asks one webhook. `object` is in the invocation's kind already.
async fn ask(
    caller: &dyn Caller,
    hook: &Hook,
    request: &Request<'_>,
    invocation: &Invocation,
    object: Option<Object>,
    mutating: bool,
) -> Result<Answer, Failure> {
    if request.dry_run && !hook.dry_run_safe {
        let refusal = format!(
            "admission webhook {:?} does not support dry run because the API call may have side effects",
            hook.name
        );
        return Err(Failure::Refused(Status::bad_request(refusal)));
    }
    let old = converted(request, request.old, &invocation.kind).map_err(Failure::Refused)?;
    let question = Question::new(request, invocation, &hook.versions, object, old)
        .map_err(|e| Failure::Call(format!("could not create admission objects: {e}")))?;
    let target = Target::of(hook).map_err(|e| Failure::Call(e.0))?;
    let timeout = Duration::from_secs(hook.timeout_seconds);
    let answer = caller.call(&target, &question.body, timeout).await;
    let answer = answer.map_err(|e| Failure::Call(format!("failed to call webhook: {e}")))?;
    let answer = question
        .read(&answer, mutating)
        .map_err(|e| Failure::Call(format!("received invalid webhook response: {e}")))?;
    answer.warnings.iter().for_each(|warning| request.warnings.add(warning.clone()));
    for (key, value) in &answer.annotations {
        request.warnings.annotate(&format!("{}/{key}", hook.name), value);
    }
    if answer.allowed { Ok(answer) } else { Err(Failure::Rejected(rejection(&hook.name, answer.status))) }
}
