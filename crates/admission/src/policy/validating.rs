//! The plugin ValidatingAdmissionPolicy.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_api::Edit;
use celx::authz::Question;
use celx::{TOTAL_LIMIT, Value};
use meta::{Object, Status, StatusCause};
use rt::time::Instant;
use serde_json::json;

use super::answers::Known;
use super::compile::{Policy, Validation};
use super::evaluate::{Failure, OUT_OF_BUDGET, Scope, Stop, Subject};
use super::select::{Hit, is_exempt, namespace, select};
use super::source::Source;
use crate::metrics::{Conditioned, Step, metrics};
use crate::plugin::{Plugin, Request};
use crate::webhook::review::seen;

/// Longest message that an expression may make, upstream's number.
const LONGEST_MESSAGE: usize = 5 * 1024;
/// Longest value of an audit annotation.
const LONGEST_FACT: usize = 10 * 1024;
/// Upstream's key for failed validations whose action is `Audit`.
const AUDIT_KEY: &str = "validation.policy.admission.k8s.io/validation_failure";

pub(super) struct Validating {
    source: Source,
}

/// A "no", with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Denial {
    message: String,
    reason: String,
    /// Which of the validations.
    index: usize,
    /// What metrics call the failure.
    error: &'static str,
    /// Whether it denies whatever the binding's actions are.
    always: bool,
    took: Duration,
}

impl Denial {
    fn failed(failure: impl Into<Failure>) -> Self {
        let Failure { message, label } = failure.into();
        Self { message, reason: String::new(), index: 0, error: label, always: false, took: Duration::ZERO }
    }
}

/// What one evaluation came to.
#[derive(Debug, Default)]
struct Outcome {
    denials: Vec<Denial>,
    /// Failures that the policy ignores, for the metrics.
    ignored: Vec<Denial>,
    /// Facts for the audit event by the policy's keys.
    facts: Vec<(String, String)>,
}

impl Outcome {
    /// A failure, as the policy takes failures.
    fn fail(&mut self, policy: &Policy, denial: Denial) {
        if policy.ignores_failures { self.ignored.push(denial) } else { self.denials.push(denial) }
    }
}

/// Facts of one policy over all its bindings and parameters: each value once, in order.
#[derive(Default)]
struct Facts(BTreeMap<String, Vec<String>>);

impl Facts {
    fn add(&mut self, key: String, value: String) {
        let values = self.0.entry(key).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }

    fn publish(&mut self, request: &Request<'_>, policy: &str) {
        for (key, values) in std::mem::take(&mut self.0) {
            request.warnings.annotate(&format!("{policy}/{key}"), &values.join(", "));
        }
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
        let mut facts = Facts::default();
        for (at, hit) in hits.iter().enumerate() {
            let outcome = decide(request, object, hit, namespace.as_deref()).await?;
            let (policy, binding) = (&hit.policy.name, &hit.binding.name);
            for ignored in &outcome.ignored {
                metrics().validated(policy, binding, ignored.error, "allow", ignored.took);
            }
            for denial in outcome.denials {
                if denial.always {
                    metrics().validated(policy, binding, denial.error, "deny", denial.took);
                    first.get_or_insert_with(|| refusal(request, object, policy, Some(binding), &denial));
                    continue;
                }
                for action in &hit.binding.actions {
                    metrics().validated(policy, binding, denial.error, &action.to_lowercase(), denial.took);
                    match action.as_str() {
                        "Deny" if first.is_none() => {
                            first = Some(refusal(request, object, policy, Some(binding), &denial));
                        }
                        "Warn" => request.warnings.add(format!(
                            "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}",
                            denial.message
                        )),
                        "Audit" => request.warnings.annotate(AUDIT_KEY, &audited(hit, &denial)),
                        _ => {}
                    }
                }
            }
            outcome.facts.into_iter().for_each(|(key, value)| facts.add(key, value));
            if hits.get(at + 1).is_none_or(|next| !Arc::ptr_eq(&next.policy, &hit.policy)) {
                facts.publish(request, policy);
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// A failed validation as the audit event has it.
fn audited(hit: &Hit, denial: &Denial) -> String {
    json!([{
        "message": denial.message, "policy": hit.policy.name, "binding": hit.binding.name,
        "expressionIndex": denial.index, "validationActions": hit.binding.actions,
    }])
    .to_string()
}

/// What one binding says, over all its parameters.
async fn decide(
    request: &Request<'_>,
    object: Option<&Object>,
    hit: &Hit,
    namespace: Option<&Object>,
) -> Result<Outcome, Status> {
    let policy = &*hit.policy;
    let current = seen(request, object, &hit.invocation.kind)?;
    let old = seen(request, request.old, &hit.invocation.kind)?;
    let subject = Subject { invocation: &hit.invocation, object: current.as_deref(), old: old.as_deref(), namespace };
    let mut all = Outcome::default();
    for params in &hit.params {
        let params = params.as_deref();
        let before = Subject { namespace: None, ..subject };
        let of = Conditioned { name: &policy.name, kind: "policy", step: Step::Validate, operation: request.operation };
        match policy.conditions.hold(request, &before, params, of).await {
            Ok(false) => continue,
            Err(failure) => all.fail(policy, Denial::failed(failure)),
            Ok(true) => {
                let mut answers = Known::default();
                let evaluated =
                    answers.resolve(request, |answers| validate(policy, request, &subject, params, answers)).await;
                match evaluated {
                    Ok(outcome) => {
                        all.denials.extend(outcome.denials);
                        all.ignored.extend(outcome.ignored);
                        all.facts.extend(outcome.facts);
                    }
                    Err(failure) => all.denials.push(Denial::failed(failure)),
                }
            }
        }
    }
    Ok(all)
}

/// Evaluates the validations with one parameter.
fn validate(
    policy: &Policy,
    request: &Request<'_>,
    subject: &Subject<'_>,
    params: Option<&Object>,
    answers: &Known,
) -> Result<Outcome, Box<Question>> {
    let review = OnceCell::new();
    let scope = Scope::new(request, subject, params, &policy.variables, answers, &review);
    let spent = || {
        let mut outcome = Outcome::default();
        outcome.fail(policy, Denial::failed(Failure::out_of_budget()));
        outcome
    };
    let mut budget = TOTAL_LIMIT;
    let mut outcome = Outcome::default();
    for (index, validation) in policy.validations.iter().enumerate() {
        let started = Instant::now();
        let result = scope.evaluate(&validation.expression, &mut budget);
        let took = started.elapsed();
        match result {
            Ok(Ok(Value::Bool(true))) => {}
            Ok(Ok(_)) => {
                let message = message(&scope, validation, &mut budget)?;
                let reason = validation.reason.clone();
                outcome.denials.push(Denial { message, reason, index, error: "no_error", always: false, took });
            }
            Ok(Err(failure)) => outcome.fail(policy, Denial { index, took, ..Denial::failed(failure) }),
            Err(Stop::Budget) => return Ok(spent()),
            Err(Stop::Pending(question)) => return Err(question),
        }
    }
    let mut budget = TOTAL_LIMIT;
    for (key, annotation) in &policy.audit_annotations {
        match scope.evaluate(annotation, &mut budget) {
            Ok(Ok(Value::Str(text))) => {
                let mut text = text.as_str().trim().to_owned();
                if !text.is_empty() {
                    let end = (0..=LONGEST_FACT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
                    text.truncate(end.unwrap_or(0));
                    outcome.facts.push((key.clone(), text));
                }
            }
            Ok(Ok(_)) => {}
            Ok(Err(failure)) if !policy.ignores_failures => {
                outcome.denials.push(Denial { always: true, ..Denial::failed(failure) });
            }
            Ok(Err(_)) => {}
            Err(Stop::Budget) => return Ok(spent()),
            Err(Stop::Pending(question)) => return Err(question),
        }
    }
    Ok(outcome)
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
            Ok(Err(failure)) => tracing::debug!(failure = failure.message, "message expression failed"),
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
