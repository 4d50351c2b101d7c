//! Which policies, bindings and parameters a request concerns.

use std::sync::Arc;

use meta::{Object, Status};

use super::compile::{Binding, Policy};
use super::params;
use super::source::Snapshot;
use crate::plugin::{Request, core};
use crate::webhook::matching::{Invocation, matched};

/// A policy with one binding that concern the request, and the parameters to evaluate with.
pub(super) struct Hit {
    pub(super) policy: Arc<Policy>,
    pub(super) binding: Arc<Binding>,
    pub(super) invocation: Invocation,
    pub(super) params: Vec<Option<Arc<Object>>>,
}

/// A policy or a binding that cannot be used.
pub(super) struct Misconfigured {
    pub(super) policy: Arc<Policy>,
    pub(super) binding: Option<Arc<Binding>>,
    pub(super) message: String,
}

/// Policies are not themselves subject to policies, and questions about permissions to none.
pub(super) fn is_exempt(request: &Request<'_>) -> bool {
    let resource = request.resource.resource.as_str();
    match request.resource.group.as_str() {
        "admissionregistration.k8s.io" => matches!(
            resource,
            "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
                | "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
        ),
        "authentication.k8s.io" => matches!(resource, "tokenreviews" | "selfsubjectreviews"),
        "authorization.k8s.io" => true,
        _ => false,
    }
}

/// What concerns the request, in the order of policies and bindings.
pub(super) async fn select(
    snapshot: &Snapshot,
    request: &Request<'_>,
    object: Option<&Object>,
) -> (Vec<Hit>, Vec<Misconfigured>) {
    let (mut hits, mut wrong) = (Vec::new(), Vec::new());
    for (policy, bindings) in snapshot.iter() {
        let fail = |binding: Option<&Arc<Binding>>, cause: String| Misconfigured {
            policy: policy.clone(),
            binding: binding.cloned(),
            message: format!("failed to configure {}: {cause}", if binding.is_some() { "binding" } else { "policy" }),
        };
        let invocation = match matched(&policy.criteria, false, request, object).await {
            Ok(Some(invocation)) => invocation,
            Ok(None) => continue,
            Err(error) => {
                wrong.push(fail(None, error.to_string()));
                continue;
            }
        };
        for binding in bindings {
            let concerned = match &binding.criteria {
                None => Ok(true),
                Some(criteria) => matched(criteria, true, request, object).await.map(|found| found.is_some()),
            };
            match concerned {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    wrong.push(fail(Some(binding), error.to_string()));
                    continue;
                }
            }
            match params::collect(request, policy.param_kind.as_ref(), binding).await {
                Ok(params) => {
                    let (policy, binding) = (policy.clone(), binding.clone());
                    hits.push(Hit { policy, binding, invocation: invocation.clone(), params });
                }
                Err(cause) => wrong.push(fail(Some(binding), cause)),
            }
        }
    }
    (hits, wrong)
}

/// The namespace of the request, for `namespaceObject`.
///
/// # Errors
/// It does not exist.
pub(super) async fn namespace(request: &Request<'_>) -> Result<Option<Arc<Object>>, Status> {
    if request.namespace.is_empty() || request.is_any_of("", "namespaces") {
        return Ok(None);
    }
    match request.core("namespaces", "", request.namespace).await? {
        Some(namespace) => Ok(Some(namespace)),
        None => Err(Status::not_found(&core("namespaces").group_resource(), request.namespace)),
    }
}
