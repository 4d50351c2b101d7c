//! MutatingAdmissionWebhook: webhooks one after the other, each seeing what the one before made.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{Object, Status, patch};
use serde_json::{Value, json};

use super::call::{Caller, invoke};
use super::config::{Hook, Hooks};
use super::matching::{Invocation, is_exempt, should_call};
use super::review::converted;
use super::round::Part;
use crate::metrics::Step;
use crate::plugin::{Plugin, Request};

pub(super) struct Mutating {
    hooks: Hooks,
    caller: Arc<dyn Caller>,
}

/// Applies a webhook's patch to the object as the webhook saw it and brings the result back into the pipeline's form:
/// normal, in the hub version, defaults filled in.
fn patched(request: &Request<'_>, seen: Object, bytes: &[u8], hub: &Object) -> Result<Object, Status> {
    let mut tree = Value::Object(seen.body);
    patch::json_patch(&mut tree, bytes).map_err(Status::internal)?;
    taken(request, tree, hub)
}

/// Brings an object as a webhook or a policy left it back into the pipeline's form.
pub(crate) fn taken(request: &Request<'_>, tree: Value, hub: &Object) -> Result<Object, Status> {
    let mut object = Object::from_value(tree).ok_or_else(|| Status::internal("webhook's patch left no object"))?;
    let resource = request.registry.and_then(|r| r.get(&request.resource.group, &request.resource.resource));
    let Some(resource) = resource.filter(|r| object.kind() == r.row.kind) else { return Ok(object) };
    let row = &resource.row;
    match &row.custom {
        Some(custom) => {
            let version = object.gvk().version;
            custom.accept(&mut object, &version)?;
        }
        None => schema::codec::normalize(&mut object).map_err(Status::internal)?,
    }
    row.convert_to(&mut object, &hub.gvk())?;
    row.strategy.default_object(&mut object);
    Ok(object)
}

impl Mutating {
    pub(super) fn new(caller: Arc<dyn Caller>) -> Self {
        Self { hooks: Hooks::new("mutatingwebhookconfigurations"), caller }
    }

    /// Calls one webhook; whether it changed the object.
    async fn call(
        &self,
        hook: &Hook,
        request: &Request<'_>,
        invocation: &Invocation,
        object: Option<&mut Object>,
        place: &str,
    ) -> Result<bool, Status> {
        let seen = converted(request, object.as_deref(), &invocation.kind)?;
        let at = (Step::Admit, place);
        let answer = invoke(self.caller.as_ref(), hook, request, invocation, seen.clone(), at).await?;
        let Some(answer) = answer else { return Ok(false) };
        let Some(bytes) = answer.patch else { return Ok(false) };
        let (Some(object), Some(seen)) = (object, seen) else {
            let cause = format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            );
            return Err(Status::internal(cause));
        };
        let new = patched(request, seen, &bytes, object)?;
        let changed = new != *object;
        *object = new;
        if request.warnings.records_bodies() {
            let patch: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let fact = json!({"configuration": hook.configuration, "webhook": hook.name, "patch": patch, "patchType": "JSONPatch"});
            request.warnings.annotate(&format!("patch.webhook.admission.k8s.io/{place}"), &fact.to_string());
        }
        Ok(changed)
    }
}

#[async_trait]
impl Plugin for Mutating {
    fn handles(&self, request: &Request<'_>) -> bool {
        !is_exempt(request)
    }

    async fn admit(&self, request: &Request<'_>, mut object: Option<&mut Object>) -> Result<(), Status> {
        let hooks = self.hooks.all(request).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        request.round.enter(Part::Webhooks, object.as_deref());
        for (at, hook) in hooks.iter().enumerate() {
            let Some(invocation) = should_call(hook, request, object.as_deref(), Step::Admit).await? else { continue };
            if !request.round.wants(Part::Webhooks, &hook.uid) {
                continue;
            }
            let place = format!("round_{}_index_{at}", request.round.number());
            let called = self.call(hook, request, &invocation, object.as_deref_mut(), &place).await;
            let changed = *called.as_ref().unwrap_or(&false);
            let fact = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
            request.warnings.annotate(&format!("mutation.webhook.admission.k8s.io/{place}"), &fact.to_string());
            called?;
            request.round.called(Part::Webhooks, &hook.uid, changed, hook.reinvoke);
        }
        request.round.leave(Part::Webhooks, object.as_deref());
        Ok(())
    }
}
