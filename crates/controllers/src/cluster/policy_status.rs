//! Type checks of ValidatingAdmissionPolicies: what an expression gets wrong about the objects that it will see.
//!
//! The API server compiles expressions without knowing the objects' types. This controller compiles them again for each
//! type that a policy's rules name, and writes what it finds to the policy's status. Types come from the API server's
//! OpenAPI documents, custom resources included. A finding never changes what a policy does.

mod types;

use std::sync::Arc;

use api::Kind;
use api::k8s::admissionregistration::v1::ValidatingAdmissionPolicy;
use celx::Type;
use celx::admission::{Has, Want, compile, env, with_variable};
use client::{Error, PatchKind};
use informer::{Informer, Queue, run_workers};
use meta::GroupVersionKind;
use serde_json::{Value, json};

use crate::discovery;
use crate::frame::Context;

/// Most types that one rule of a policy is checked for, upstream's number.
const MOST_TYPES: usize = 10;

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let policies = context.factory.informer::<ValidatingAdmissionPolicy>();
    let queue = Arc::new(Queue::new());
    policies.synced().await;
    let handed = queue.clone();
    policies.add_handler(move |delta| handed.add(delta.object().name().to_owned()));
    let shutdown = context.shutdown.clone();
    run_workers("policy status", queue, 2, shutdown, move |name: String| {
        let (context, policies) = (context.clone(), policies.clone());
        async move { sync(&context, &policies, &name).await }
    })
    .await;
}

async fn sync(context: &Context, policies: &Informer<ValidatingAdmissionPolicy>, name: &str) -> Result<(), Error> {
    let Some(policy) = policies.cache().get_key(name) else { return Ok(()) };
    let generation = policy.metadata.generation.unwrap_or(0);
    let observed = policy.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
    if generation <= observed {
        return Ok(());
    }
    let kinds = kinds(context, &policy).await?;
    let mut objects = Vec::new();
    for kind in kinds {
        if let Some(ty) = types::of(&context.client, &kind).await? {
            objects.push((kind, ty));
        }
    }
    let params = match policy.spec.as_ref().and_then(|spec| spec.param_kind.as_ref()) {
        Some(kind) => {
            let version = kind.api_version.as_deref().unwrap_or_default();
            let kind = GroupVersionKind::from_api_version(version, kind.kind.as_deref().unwrap_or_default());
            let found = match kind {
                Ok(kind) => types::of(&context.client, &kind).await?,
                Err(_) => None,
            };
            Some(found.unwrap_or(Type::DYN))
        }
        None => None,
    };
    let warnings = warnings(&policy, &objects, params.as_ref());
    let mut checked = json!({});
    if !warnings.is_empty() {
        checked["expressionWarnings"] = warnings.into();
    }
    let patch = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "status": {"observedGeneration": generation, "typeChecking": checked},
    });
    let kind = PatchKind::Apply { manager: "validatingadmissionpolicy-status".into(), force: true };
    match context.client.patch_status::<ValidatingAdmissionPolicy>("", name, &kind, &patch).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// The kinds that a policy's rules name; wildcards and subresources name none.
async fn kinds(context: &Context, policy: &ValidatingAdmissionPolicy) -> Result<Vec<GroupVersionKind>, Error> {
    let rules = policy.spec.as_ref().and_then(|spec| spec.match_constraints.as_ref());
    let rules = rules.and_then(|matched| matched.resource_rules.as_deref()).unwrap_or_default();
    let plain = |list: &Option<Vec<String>>| -> Vec<String> {
        let list = list.clone().unwrap_or_default();
        if list.iter().any(|item| item == "*") { Vec::new() } else { list }
    };
    let mut found = Vec::new();
    for rule in rules {
        let mut count = 0;
        for group in plain(&rule.api_groups) {
            for version in plain(&rule.api_versions) {
                let resources = plain(&rule.resources);
                if resources.is_empty() || count >= MOST_TYPES {
                    continue;
                }
                let served = discovery::kinds_of(&context.client, &group, &version).await?;
                for (resource, kind) in served {
                    if resources.contains(&resource) && count < MOST_TYPES {
                        found.push(GroupVersionKind::new(&group, &version, &kind));
                        count += 1;
                    }
                }
            }
        }
    }
    found.sort_by_key(|kind| (kind.group.clone(), kind.version.clone(), kind.kind.clone()));
    found.dedup();
    Ok(found)
}

/// What is wrong with the policy's expressions, by field.
fn warnings(
    policy: &ValidatingAdmissionPolicy,
    objects: &[(GroupVersionKind, Type)],
    params: Option<&Type>,
) -> Vec<Value> {
    let spec = policy.spec.as_ref();
    let variables = spec.and_then(|spec| spec.variables.as_deref()).unwrap_or_default();
    let environments = objects.iter().map(|(kind, object)| {
        let has = Has { params: params.is_some(), authorizer: true, variables: true, mutations: false };
        let mut env = env(has, object.clone(), params.cloned().unwrap_or(Type::DYN));
        for variable in variables {
            let ty = compile(&env, &variable.expression, Want::Any).map_or(Type::DYN, |p| p.output().clone());
            env = with_variable(env, &variable.name, ty);
        }
        (kind, env)
    });
    let environments: Vec<_> = environments.collect();
    let mut found = Vec::new();
    let mut check = |field: String, source: &str| {
        let findings: Vec<String> = environments
            .iter()
            .filter_map(|(kind, env)| {
                let error = compile(env, source, Want::Any).err()?;
                Some(format!("{}/{}, Kind={}: {error}\n", kind.group, kind.version, kind.kind))
            })
            .collect();
        if !findings.is_empty() {
            found.push(json!({"fieldRef": field, "warning": findings.join("\n")}));
        }
    };
    let validations = spec.and_then(|spec| spec.validations.as_deref()).unwrap_or_default();
    for (index, validation) in validations.iter().enumerate() {
        check(format!("spec.validations[{index}].expression"), &validation.expression);
        if let Some(message) = validation.message_expression.as_deref().filter(|message| !message.is_empty()) {
            check(format!("spec.validations[{index}].messageExpression"), message);
        }
    }
    found
}
