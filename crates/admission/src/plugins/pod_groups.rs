//! PodGroupProtection, PodGroupWorkloadExists and JobValidation: groups of pods that are scheduled together. All are alpha
//! behind the gates GenericWorkload and WorkloadWithJob, as upstream.

use async_trait::async_trait;
use meta::{GroupVersionResource, Object, Status};
use registry::Operation;
use serde_json::Value;

use crate::plugin::{Plugin, Request};
use crate::pod::{items, text};

const GROUP: &str = "scheduling.k8s.io";
const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";

fn of(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new(GROUP, "v1alpha2", resource)
}

fn creates_group(request: &Request<'_>) -> bool {
    request.operation == Operation::Create
        && request.is(GROUP, "podgroups")
        && request.deps.settings.gates.enabled("GenericWorkload")
}

/// PodGroupProtection: a group stays while pods refer to it.
pub struct Protection;

#[async_trait]
impl Plugin for Protection {
    fn handles(&self, request: &Request<'_>) -> bool {
        creates_group(request)
    }

    async fn admit(&self, _request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(group) = object else { return Ok(()) };
        let mut finalizers: Vec<Value> =
            group.get(&["metadata", "finalizers"]).and_then(Value::as_array).cloned().unwrap_or_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
            group.set(&["metadata", "finalizers"], Value::Array(finalizers));
        }
        Ok(())
    }
}

/// PodGroupWorkloadExists: a group's workload is there and has its template.
pub struct WorkloadExists;

#[async_trait]
impl Plugin for WorkloadExists {
    fn handles(&self, request: &Request<'_>) -> bool {
        creates_group(request)
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(group) = object else { return Ok(()) };
        let reference = group.get(&["spec", "podGroupTemplateRef", "workload"]).filter(|r| r.is_object());
        let Some(reference) = reference else { return Ok(()) };
        let (name, template) = (text(reference, &["workloadName"]), text(reference, &["podGroupTemplateName"]));
        let refuse = |cause: String| Err(request.forbidden(Some(group), format!("PodGroup rejected: {cause}")));
        let Some(workload) = request.deps.api.get(&of("workloads"), request.namespace, name).await? else {
            return refuse(format!("Workload {name:?} not found"));
        };
        if workload.deletion_timestamp().is_some() {
            return refuse(format!("Workload {name:?} is being deleted"));
        }
        let templates = workload.body.get("spec").into_iter().flat_map(|spec| items(spec, "podGroupTemplates"));
        if templates.into_iter().any(|t| text(t, &["name"]) == template) {
            return Ok(());
        }
        refuse(format!("PodGroupTemplate {template:?} not found in Workload {name:?}"))
    }
}

/// JobValidation: the size of a job whose pods are scheduled as a gang stays.
pub struct JobValidation;

fn is_gang(group: &Object) -> bool {
    group.get(&["spec", "schedulingPolicy", "gang"]).is_some_and(|gang| !gang.is_null())
}

#[async_trait]
impl Plugin for JobValidation {
    fn handles(&self, request: &Request<'_>) -> bool {
        let gates = &request.deps.settings.gates;
        request.operation == Operation::Update
            && request.is("batch", "jobs")
            && (gates.enabled("GenericWorkload") || gates.enabled("WorkloadWithJob"))
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let (Some(job), Some(old)) = (object, request.old) else { return Ok(()) };
        let parallelism = ["spec", "parallelism"];
        if job.get_i64(&parallelism) == old.get_i64(&parallelism) {
            return Ok(());
        }
        let named = old.get_str(&["spec", "template", "spec", "schedulingGroup", "podGroupName"]);
        let api = &request.deps.api;
        let gang = if named.is_empty() {
            let owned = |group: &Object| {
                group.owner_references().iter().any(|o| o.controller == Some(true) && o.uid == old.uid())
            };
            let groups = api.list(&of("podgroups"), old.namespace()).await.unwrap_or_default();
            groups.into_iter().find(|group| owned(group) && is_gang(group))
        } else {
            api.get(&of("podgroups"), old.namespace(), named).await.unwrap_or_default().filter(|g| is_gang(g))
        };
        match gang {
            None => Ok(()),
            Some(group) => {
                let name = group.name();
                let cause = format!("cannot change parallelism for a Job referencing gang-scheduled PodGroup {name:?}");
                Err(request.forbidden(Some(job), cause))
            }
        }
    }
}
