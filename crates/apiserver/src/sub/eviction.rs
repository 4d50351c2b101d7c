//! pods/eviction: a delete that respects disruption budgets.

use async_trait::async_trait;
use http::{Response, StatusCode};
use meta::selector::LabelSelector;
use meta::{GroupVersionKind, Object, Status};
use registry::{Ctx, DeleteOptions, Operation, Request, Resource, Strategy, UpdateOptions, Updater, Warnings};
use serde_json::{Value, json};
use wire::Body;

use crate::chain::Call;
use crate::decode;
use crate::respond;
use crate::route::Target;

/// Budgets with more pods being disrupted than this are stuck.
const MAX_DISRUPTED: usize = 2000;

/// POST of an Eviction.
pub(crate) async fn eviction(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let gvk = GroupVersionKind::new("policy", "v1", "Eviction");
    let mut request = target.request(call, "CreateOptions")?;
    let bytes = decode::read(call.take_body()).await?;
    let eviction = decode::built_in(&bytes, decode::media(call.headers())?, &gvk)?.object;
    let name = call.info.name.clone();
    if eviction.name() != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let delete = eviction.get(&["deleteOptions"]).cloned().unwrap_or_else(|| json!({}));
    request.cx.dry_run |= crate::verbs::has_dry_run(&delete);
    let mut options = DeleteOptions::from_value(&delete)?;
    request.kind = gvk;
    let admit = call.state.registry.admit();
    let attributes = request.attributes(Operation::Create, &name, None);
    let mut admitted = eviction.clone();
    admit.mutate(&attributes, Some(&mut admitted)).await?;
    admit.validate(&attributes, Some(&admitted)).await?;
    let pod = target.resource.get_object(&target.namespace, &name).await?;
    if !may_go_freely(&pod) {
        let budgets = call.state.registry.need("policy", "poddisruptionbudgets")?;
        match matching(&budgets, &pod).await?.as_slice() {
            [] => {}
            [budget] => {
                if !ignores(&pod, budget) {
                    take_from(call, &budgets, budget, &pod, request.cx.dry_run).await?;
                    // What the budget was asked for is this very pod.
                    options.uid.get_or_insert_with(|| pod.uid().to_owned());
                }
            }
            _ => {
                return Err(Status::failure(
                    500,
                    meta::reason::INTERNAL_ERROR,
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        }
    }
    if !request.cx.dry_run {
        mark(call, target, &name, &mut options).await?;
    }
    let mut deleting = target.request(call, "DeleteOptions")?;
    deleting.cx.dry_run = request.cx.dry_run;
    deleting.cx.subresource = String::new();
    target.resource.delete(&deleting, &name, &options).await?;
    let mut status = Status::success(None);
    status.code = 201;
    let mut response = respond::status_response(call.headers(), &status);
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Pods that are finished, not yet started, or on their way out count against no budget.
fn may_go_freely(pod: &Object) -> bool {
    pod.deletion_timestamp().is_some()
        || matches!(pod.get_str(&["status", "phase"]), "Succeeded" | "Failed" | "Pending")
}

async fn matching(budgets: &Resource, pod: &Object) -> Result<Vec<Object>, Status> {
    let all = budgets.list_cached(pod.namespace()).await?;
    Ok(all
        .into_iter()
        .filter(|b| LabelSelector::from_value(b.get(&["spec", "selector"])).is_ok_and(|s| s.matches(pod)))
        .collect())
}

/// Pods that are not ready may go when the budget's policy says so, or when enough others are healthy.
fn ignores(pod: &Object, budget: &Object) -> bool {
    let ready = pod
        .get(&["status", "conditions"])
        .and_then(Value::as_array)
        .is_some_and(|l| l.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
    if ready {
        return false;
    }
    let healthy = budget.get_i64(&["status", "currentHealthy"]).unwrap_or(0);
    let desired = budget.get_i64(&["status", "desiredHealthy"]).unwrap_or(0);
    budget.get_str(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow" || (desired > 0 && healthy >= desired)
}

struct Plainly;

impl Strategy for Plainly {
    fn prepare_for_update(&self, _cx: &Ctx, _object: &mut Object, _old: &Object) {}
}

/// Writes why the pod goes: Jobs and users look for the condition. A precondition on the version then means the version
/// that this makes.
async fn mark(call: &Call, target: &Target, name: &str, options: &mut DeleteOptions) -> Result<(), Status> {
    let request = status_request(call, &target.resource, &target.namespace, false);
    let updater = Mark { name, options: &*options };
    let update = UpdateOptions { strategy: &Plainly, create: false, main: false, admitted: true };
    let marked = target.resource.update(&request, name, &updater, update).await?;
    if options.resource_version.is_some() {
        options.resource_version = Some(marked.raw.revision.to_string());
    }
    Ok(())
}

struct Mark<'a> {
    name: &'a str,
    options: &'a DeleteOptions,
}

#[async_trait]
impl Updater for Mark<'_> {
    async fn next(&self, old: Option<&Object>) -> Result<Object, Status> {
        let resource = meta::GroupResource::new("", "pods");
        let Some(old) = old else { return Err(Status::not_found(&resource, self.name)) };
        self.options.check_preconditions(&resource, old)?;
        let mut pod = old.clone();
        let mut conditions = pod.get(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let known = conditions.iter().position(|c| c["type"] == "DisruptionTarget");
        let since = known
            .filter(|i| conditions[*i]["status"] == "True")
            .and_then(|i| conditions[i].get("lastTransitionTime").cloned());
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastTransitionTime": since.unwrap_or_else(|| meta::time::format_seconds(rt::time::now()).into()),
        });
        match known {
            Some(i) => conditions[i] = condition,
            None => conditions.push(condition),
        }
        pod.set(&["status", "conditions"], conditions.into());
        Ok(pod)
    }
}

struct Take<'a> {
    pod: &'a str,
    name: &'a str,
}

#[async_trait]
impl Updater for Take<'_> {
    async fn next(&self, old: Option<&Object>) -> Result<Object, Status> {
        let resource = meta::GroupResource::new("policy", "poddisruptionbudgets");
        let Some(old) = old else { return Err(Status::not_found(&resource, self.name)) };
        let refuse = |cause: String, retry: i32| {
            Err(Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", retry)
                .with_cause("DisruptionBudget", cause, ""))
        };
        if old.get_i64(&["status", "observedGeneration"]).unwrap_or(0) < old.generation() {
            return refuse(format!("The disruption budget {} is still being processed by the server.", self.name), 10);
        }
        let allowed = old.get_i64(&["status", "disruptionsAllowed"]).unwrap_or(0);
        let disrupted = old.get(&["status", "disruptedPods"]).and_then(Value::as_object).map_or(0, |m| m.len());
        if allowed < 0 || disrupted > MAX_DISRUPTED {
            return Err(Status::forbidden(
                &resource,
                self.name,
                "pdb disruptions allowed is negative or too many evictions are in flight",
            ));
        }
        if allowed == 0 {
            let desired = old.get_i64(&["status", "desiredHealthy"]).unwrap_or(0);
            let healthy = old.get_i64(&["status", "currentHealthy"]).unwrap_or(0);
            let cause =
                format!("The disruption budget {} needs {desired} healthy pods and has {healthy} currently", self.name);
            return refuse(cause, 0);
        }
        let mut budget = old.clone();
        budget.set(&["status", "disruptionsAllowed"], (allowed - 1).into());
        let now = meta::time::format_seconds(rt::time::now());
        budget.set(&["status", "disruptedPods", self.pod], now.into());
        Ok(budget)
    }
}

async fn take_from(
    call: &Call,
    budgets: &Resource,
    budget: &Object,
    pod: &Object,
    dry_run: bool,
) -> Result<(), Status> {
    let request = status_request(call, budgets, budget.namespace(), dry_run);
    let updater = Take { pod: pod.name(), name: budget.name() };
    let options = UpdateOptions { strategy: &Plainly, create: false, main: false, admitted: true };
    budgets.update(&request, budget.name(), &updater, options).await.map(drop)
}

fn status_request(call: &Call, resource: &Resource, namespace: &str, dry_run: bool) -> Request {
    Request {
        cx: Ctx {
            user: call.user.clone(),
            namespace: namespace.to_owned(),
            gvr: resource.row.gvr("v1"),
            subresource: "status".into(),
            dry_run,
            registry: call.state.registry.clone(),
        },
        kind: resource.row.gvk("v1"),
        options: json!({}),
        warnings: Warnings::audited(call.trail.clone().map(|trail| trail as _)),
    }
}
