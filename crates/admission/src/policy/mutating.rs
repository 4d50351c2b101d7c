//! The plugin MutatingAdmissionPolicy.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use async_trait::async_trait;
use auth_api::Edit;
use celx::TOTAL_LIMIT;
use celx::authz::Question;
use meta::{Object, Status, StatusCause};
use registry::Operation;
use rt::time::Instant;
use serde_json::Value as Json;

use super::answers::Known;
use super::apply;
use super::compile::{Mutation, Policy};
use super::evaluate::{Failure, Scope, Stop, Subject};
use super::select::{Hit, Misconfigured, is_exempt, namespace, select};
use super::source::Source;
use crate::metrics::{Conditioned, Step, metrics};
use crate::plugin::{Plugin, Request};
use crate::webhook::Part;
use crate::webhook::mutating::taken;
use crate::webhook::review::seen;

pub(super) struct Mutating {
    source: Source,
}

impl Mutating {
    pub(super) fn new(api: Arc<dyn Edit>) -> Self {
        Self { source: Source::new(api, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings") }
    }
}

#[async_trait]
impl Plugin for Mutating {
    fn handles(&self, request: &Request<'_>) -> bool {
        // There is nothing to change in a delete.
        request.operation != Operation::Delete && !self.source.is_empty() && !is_exempt(request)
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let snapshot = self.source.snapshot().await;
        let Some(object) = object.filter(|_| !snapshot.is_empty()) else { return Ok(()) };
        let (hits, mut wrong) = select(&snapshot, request, Some(object)).await;
        if !hits.is_empty() {
            request.round.enter(Part::Policies, Some(object));
            let namespace = namespace(request).await?;
            for hit in &hits {
                for params in &hit.params {
                    run(request, object, hit, params.as_deref(), namespace.as_deref(), &mut wrong).await?;
                }
            }
            request.round.leave(Part::Policies, Some(object));
        }
        wrong.retain(|wrong| !wrong.policy.ignores_failures);
        if wrong.is_empty() { Ok(()) } else { Err(refusal(request, object, &wrong)) }
    }
}

fn refusal(request: &Request<'_>, object: &Object, wrong: &[Misconfigured]) -> Status {
    let mut status = request.forbidden(Some(object), "admission request denied by policy");
    let messages: Vec<String> = wrong
        .iter()
        .map(|wrong| match &wrong.binding {
            Some(binding) => {
                let (policy, binding) = (&wrong.policy.name, &binding.name);
                format!("policy '{policy}' with binding '{binding}' denied request: {}", wrong.message)
            }
            None => format!("policy {:?} denied request: {}", wrong.policy.name, wrong.message),
        })
        .collect();
    status.message = messages.first().cloned().unwrap_or_default();
    if wrong.first().is_some_and(|wrong| !wrong.message.starts_with("failed to configure")) {
        status.reason = "Invalid".into();
    }
    let causes = messages.into_iter().map(|message| StatusCause { message, ..StatusCause::default() });
    status.details.get_or_insert_default().causes.extend(causes);
    status
}

/// One policy with one binding and parameter.
struct Run<'a> {
    request: &'a Request<'a>,
    hit: &'a Hit,
    params: Option<&'a Object>,
    namespace: Option<&'a Object>,
    old: Option<Cow<'a, Object>>,
}

/// Runs the mutations of one policy with one binding and parameter.
async fn run(
    request: &Request<'_>,
    object: &mut Object,
    hit: &Hit,
    params: Option<&Object>,
    namespace: Option<&Object>,
    wrong: &mut Vec<Misconfigured>,
) -> Result<(), Status> {
    let policy = &*hit.policy;
    let fail = |Failure { message, .. }: Failure| Misconfigured {
        policy: hit.policy.clone(),
        binding: Some(hit.binding.clone()),
        message,
    };
    let old = seen(request, request.old, &hit.invocation.kind)?;
    let run = Run { request, hit, params, namespace, old };
    match run.is_concerned(object).await? {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(failure) => {
            wrong.push(fail(failure));
            return Ok(());
        }
    }
    let params_key = params.map(|p| format!("{}/{}", p.namespace(), p.name())).unwrap_or_default();
    let key = format!("{}/{}/{params_key}", policy.name, hit.binding.name);
    if !request.round.wants(Part::Policies, &key) {
        return Ok(());
    }
    let mut changed = false;
    for mutation in &policy.mutations {
        let started = Instant::now();
        let patched = run.patched(object, mutation).await?;
        let error = match &patched {
            Ok(_) => "no_error",
            Err(failure) => failure.label,
        };
        metrics().mutated(&policy.name, &hit.binding.name, error, started.elapsed());
        match patched {
            Ok(tree) => {
                let new = taken(request, tree, object)?;
                changed |= new != *object;
                *object = new;
            }
            Err(failure) => wrong.push(fail(failure)),
        }
    }
    request.round.called(Part::Policies, &key, changed, policy.reinvoke);
    Ok(())
}

impl Run<'_> {
    /// Whether the match conditions hold.
    async fn is_concerned(&self, object: &Object) -> Result<Result<bool, Failure>, Status> {
        let current = seen(self.request, Some(object), &self.hit.invocation.kind)?;
        let subject = Subject {
            invocation: &self.hit.invocation,
            object: current.as_deref(),
            old: self.old.as_deref(),
            namespace: None,
        };
        let policy = &self.hit.policy;
        let operation = self.request.operation;
        let of = Conditioned { name: &policy.name, kind: "policy", step: Step::Admit, operation };
        Ok(policy.conditions.hold(self.request, &subject, self.params, of).await)
    }

    /// The object after one mutation, in the version that the policy sees.
    async fn patched(&self, object: &Object, mutation: &Mutation) -> Result<Result<Json, Failure>, Status> {
        let (policy, request) = (&*self.hit.policy, self.request);
        let current = seen(request, Some(object), &self.hit.invocation.kind)?;
        let Some(current) = current.as_deref() else { return Ok(Err("there is no object".to_owned().into())) };
        let subject = Subject {
            invocation: &self.hit.invocation,
            object: Some(current),
            old: self.old.as_deref(),
            namespace: self.namespace,
        };
        let mut answers = Known::default();
        let outcome = answers
            .resolve(request, |answers| evaluate(policy, mutation, request, &subject, self.params, answers))
            .await
            .map_err(Failure::from)
            .and_then(|outcome| outcome);
        Ok(outcome.and_then(|output| {
            let patched = match mutation.apply {
                true => apply::configuration(request, current, output),
                false => apply::json_patch(current, &output),
            };
            patched.map_err(Failure::from)
        }))
    }
}

/// What a mutation evaluates to, as JSON; or why it failed.
fn evaluate(
    policy: &Policy,
    mutation: &Mutation,
    request: &Request<'_>,
    subject: &Subject<'_>,
    params: Option<&Object>,
    answers: &Known,
) -> Result<Result<Json, Failure>, Box<Question>> {
    let review = OnceCell::new();
    let scope = Scope::new(request, subject, params, &policy.variables, answers, &review);
    let mut budget = TOTAL_LIMIT;
    match scope.evaluate(&mutation.expression, &mut budget) {
        Ok(Ok(value)) => {
            let output = match mutation.apply {
                true => apply::checked(&value).and_then(|()| value.to_json().map_err(|e| e.to_string())),
                false => apply::operations(&value),
            };
            Ok(output.map_err(Failure::from))
        }
        Ok(Err(failure)) => Ok(Err(failure)),
        Err(Stop::Budget) => Ok(Err(Failure::out_of_budget())),
        Err(Stop::Pending(question)) => Err(question),
    }
}
