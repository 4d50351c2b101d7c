//! The plugin ValidatingAdmissionPolicy.

use std::cell::OnceCell;
use std::sync::Arc;

use async_trait::async_trait;
use auth_api::Edit;
use celx::authz::Question;
use celx::{TOTAL_LIMIT, Value};
use meta::{Object, Status, StatusCause};

use super::answers::Known;
use super::compile::{Policy, Validation};
use super::evaluate::{OUT_OF_BUDGET, Scope, Stop, Subject};
use super::select::{Hit, is_exempt, namespace, select};
use super::source::Source;
use crate::plugin::{Plugin, Request};
use crate::webhook::review::seen;

/// Longest message that an expression may make, upstream's number.
const LONGEST_MESSAGE: usize = 5 * 1024;

pub(super) struct Validating {
    source: Source,
}

/// A "no", with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Denial {
    message: String,
    reason: String,
}

impl Denial {
    fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), reason: String::new() }
    }
}

impl Validating {
    pub(super) fn new(api: Arc<dyn Edit>) -> Self {
        Self { source: Source::new(api, "validatingadmissionpolicies", "validatingadmissionpolicybindings") }
    }
}

fn code(reason: &str) -> u16 {
    match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    }
}

fn refusal(
    request: &Request<'_>,
    object: Option<&Object>,
    policy: &str,
    binding: Option<&str>,
    denial: &Denial,
) -> Status {
    let with = binding.map(|name| format!(" with binding '{name}'")).unwrap_or_default();
    let message = format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {}", denial.message);
    let mut status = request.forbidden(object, &message);
    status.reason = if denial.reason.is_empty() { "Invalid".into() } else { denial.reason.clone() };
    status.code = code(&status.reason);
    status.details.get_or_insert_default().causes.push(StatusCause { message, ..StatusCause::default() });
    status
}

#[async_trait]
impl Plugin for Validating {
    fn handles(&self, request: &Request<'_>) -> bool {
        !self.source.is_empty() && !is_exempt(request)
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let snapshot = self.source.snapshot().await;
        if snapshot.is_empty() {
            return Ok(());
        }
        let (hits, wrong) = select(&snapshot, request, object).await;
        let wrong = wrong.into_iter().find(|wrong| !wrong.policy.ignores_failures);
        let mut first = wrong.map(|wrong| {
            let binding = wrong.binding.as_ref().map(|binding| binding.name.as_str());
            refusal(request, object, &wrong.policy.name, binding, &Denial::failed(wrong.message))
        });
        if hits.is_empty() {
            return first.map_or(Ok(()), Err);
        }
        let namespace = namespace(request).await?;
        for hit in &hits {
            for denial in decide(request, object, hit, namespace.as_deref()).await? {
                let (policy, binding) = (&hit.policy.name, &hit.binding.name);
                for action in &hit.binding.actions {
                    match action.as_str() {
                        "Deny" if first.is_none() => {
                            first = Some(refusal(request, object, policy, Some(binding), &denial));
                        }
                        "Warn" => request.warnings.add(format!(
                            "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}",
                            denial.message
                        )),
                        "Audit" => {
                            tracing::debug!(policy, binding, message = denial.message, "admission policy failed");
                        }
                        _ => {}
                    }
                }
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// All denials of one binding, over all its parameters.
async fn decide(
    request: &Request<'_>,
    object: Option<&Object>,
    hit: &Hit,
    namespace: Option<&Object>,
) -> Result<Vec<Denial>, Status> {
    let policy = &*hit.policy;
    let current = seen(request, object, &hit.invocation.kind)?;
    let old = seen(request, request.old, &hit.invocation.kind)?;
    let subject = Subject { invocation: &hit.invocation, object: current.as_deref(), old: old.as_deref(), namespace };
    let mut denials = Vec::new();
    for params in &hit.params {
        let params = params.as_deref();
        let before = Subject { namespace: None, ..subject };
        let found = match policy.conditions.hold(request, &before, params).await {
            Ok(false) => continue,
            Err(failure) => vec![Denial::failed(failure)].into_iter().filter(|_| !policy.ignores_failures).collect(),
            Ok(true) => {
                let mut answers = Known::default();
                let evaluated =
                    answers.resolve(request, |answers| validate(policy, request, &subject, params, answers)).await;
                evaluated.unwrap_or_else(|failure| vec![Denial::failed(failure)])
            }
        };
        denials.extend(found);
    }
    Ok(denials)
}

/// Evaluates the validations with one parameter.
fn validate(
    policy: &Policy,
    request: &Request<'_>,
    subject: &Subject<'_>,
    params: Option<&Object>,
    answers: &Known,
) -> Result<Vec<Denial>, Box<Question>> {
    let review = OnceCell::new();
    let scope = Scope::new(request, subject, params, &policy.variables, answers, &review);
    let mut budget = TOTAL_LIMIT;
    let failed = |message: String| if policy.ignores_failures { Vec::new() } else { vec![Denial::failed(message)] };
    let mut denials = Vec::new();
    for validation in &policy.validations {
        match scope.evaluate(&validation.expression, &mut budget) {
            Ok(Ok(Value::Bool(true))) => {}
            Ok(Ok(_)) => {
                let message = message(&scope, validation, &mut budget)?;
                denials.push(Denial { message, reason: validation.reason.clone() });
            }
            Ok(Err(failure)) => denials.extend(failed(failure)),
            Err(Stop::Budget) => return Ok(failed(OUT_OF_BUDGET.to_owned())),
            Err(Stop::Pending(question)) => return Err(question),
        }
    }
    let mut budget = TOTAL_LIMIT;
    for annotation in &policy.audit_annotations {
        match scope.evaluate(annotation, &mut budget) {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => denials.extend(failed(failure)),
            Err(Stop::Budget) => return Ok(failed(OUT_OF_BUDGET.to_owned())),
            Err(Stop::Pending(question)) => return Err(question),
        }
    }
    Ok(denials)
}

/// What a failed validation says: its message expression, else its message, else the expression.
fn message<'a>(scope: &Scope<'a>, validation: &'a Validation, budget: &mut u64) -> Result<String, Box<Question>> {
    if let Some(expression) = &validation.message_expression {
        match scope.evaluate(expression, budget) {
            Ok(Ok(Value::Str(text))) => {
                let text = text.as_str().trim();
                if !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n') {
                    return Ok(text.to_owned());
                }
            }
            Ok(Err(failure)) => tracing::debug!(failure, "message expression failed"),
            Ok(Ok(_)) => {}
            Err(Stop::Budget) => return Ok(format!("failed messageExpression: {OUT_OF_BUDGET}")),
            Err(Stop::Pending(question)) => return Err(question),
        }
    }
    if validation.message.is_empty() {
        return Ok(format!("failed expression: {}", validation.expression.source.trim()));
    }
    Ok(validation.message.clone())
}
