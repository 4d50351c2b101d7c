//! ValidatingAdmissionWebhook: all webhooks at once; the first refusal in order counts.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use meta::{Object, Status};

use super::call::{Caller, invoke};
use super::config::Hooks;
use super::matching::{is_exempt, should_call};
use super::review::converted;
use crate::metrics::Step;
use crate::plugin::{Plugin, Request};

pub(super) struct Validating {
    hooks: Hooks,
    caller: Arc<dyn Caller>,
}

impl Validating {
    pub(super) fn new(caller: Arc<dyn Caller>) -> Self {
        Self { hooks: Hooks::new("validatingwebhookconfigurations"), caller }
    }
}

#[async_trait]
impl Plugin for Validating {
    fn handles(&self, request: &Request<'_>) -> bool {
        !is_exempt(request)
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let hooks = self.hooks.all(request).await?;
        let mut calls = Vec::new();
        for hook in hooks.iter() {
            if let Some(invocation) = should_call(hook, request, object, Step::Validate).await? {
                let seen = converted(request, object, &invocation.kind)?;
                calls.push((hook, invocation, seen));
            }
        }
        let calls = calls.into_iter().enumerate().map(|(at, (hook, invocation, seen))| async move {
            let place = format!("round_0_index_{at}");
            let place = (Step::Validate, place.as_str());
            invoke(self.caller.as_ref(), hook, request, &invocation, seen, place).await.err()
        });
        match join_all(calls).await.into_iter().flatten().next() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }
}
