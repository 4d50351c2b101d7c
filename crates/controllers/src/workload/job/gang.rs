//! Jobs as gangs (WorkloadWithJob): an indexed job that runs all of its pods at once gets a Workload and a PodGroup, so that
//! its pods are scheduled together.
//!
//! Only a job that has not begun gets them; where what is there is not of the job's own making, its pods are scheduled one by
//! one.

use std::sync::Arc;

use api::Kind;
use api::k8s::batch::v1::Job;
use api::k8s::core::v1::{Pod, PodSchedulingGroup};
use api::k8s::scheduling::v1alpha2::{
    GangSchedulingPolicy, PodGroup, PodGroupSchedulingPolicy, PodGroupSpec, PodGroupTemplate,
    PodGroupTemplateReference, TypedLocalObjectReference, Workload, WorkloadPodGroupTemplateReference, WorkloadSpec,
};
use api::metav1::ObjectMeta;
use client::{Client, Error};
use component_helpers::numbers::{fnv32a, safe_encode};
use component_helpers::owner::reference;
use informer::{EventType, Informer};

use super::round::{is_indexed, spec};
use crate::frame::Context;
use crate::owner::controller_reference;

const BY_JOB: &str = "job";
const BY_WORKLOAD: &str = "workload";
/// Longest name of an object.
const LONGEST: usize = 253;

/// The caches of what is made for jobs.
pub(super) struct Gangs {
    workloads: Informer<Workload>,
    groups: Informer<PodGroup>,
}

/// The job that a workload is of, as `namespace/name`.
fn job_of(workload: &Workload) -> Option<String> {
    let controller = workload.spec.controller_ref.as_ref()?;
    let is_job = controller.api_group.as_deref() == Some("batch") && controller.kind == "Job";
    (is_job && !controller.name.is_empty()).then(|| format!("{}/{}", workload.namespace(), controller.name))
}

/// The workload that a group is of, as `namespace/name`.
fn workload_of(group: &PodGroup) -> Option<String> {
    let reference = group.spec.pod_group_template_ref.as_ref()?.workload.as_ref()?;
    (!reference.workload_name.is_empty()).then(|| format!("{}/{}", group.namespace(), reference.workload_name))
}

/// Whether the job's pods all run at once, and are not scheduled with another group.
pub(super) fn is_gang(job: &Job) -> bool {
    let spec = spec(job);
    let grouped = spec.template.spec.as_ref().is_some_and(|s| s.scheduling_group.is_some());
    is_indexed(job) && !grouped && spec.parallelism.is_some_and(|n| n > 1) && spec.completions == spec.parallelism
}

/// Whether the job has never begun, so far as can be told.
fn is_new(job: &Job, pods: &[Arc<Pod>]) -> bool {
    let status = job.status.clone().unwrap_or_default();
    pods.is_empty()
        && status.start_time.is_none()
        && status.succeeded.unwrap_or(0) == 0
        && status.failed.unwrap_or(0) == 0
        && !status.conditions.iter().flatten().any(|c| c.type_ == "Suspended")
}

fn controlled<T: Kind>(object: &T, job: &Job) -> bool {
    object.controller_ref().is_some_and(|owner| owner.uid == job.uid())
}

fn workload_name(job: &Job) -> String {
    let hash = safe_encode(&fnv32a(format!("(types.UID){}", job.uid()).as_bytes()).to_string());
    format!("{}-{hash}", cut(job.name(), LONGEST - hash.len() - 1))
}

fn cut(text: &str, longest: usize) -> &str {
    text.get(..longest).unwrap_or(text)
}

/// Both names, cut evenly when they are too long, and a hash of them.
fn group_name(workload: &str, template: &str) -> String {
    let hash = safe_encode(&fnv32a(format!("{workload}{template}").as_bytes()).to_string());
    let (room, lengths) = (LONGEST - hash.len() - 2, (workload.len(), template.len()));
    let half = room / 2;
    let (first, second) = match lengths {
        (a, b) if a + b <= room => (a, b),
        (a, _) if a <= half => (a, room - a),
        (_, b) if b <= half => (room - b, b),
        _ => (room - half, half),
    };
    format!("{}-{}-{hash}", cut(workload, first), cut(template, second))
}

fn new_workload(job: &Job) -> Workload {
    let gang = GangSchedulingPolicy { min_count: spec(job).parallelism.unwrap_or(1) };
    let template = PodGroupTemplate {
        name: format!("{}-pgt-0", job.name()),
        scheduling_policy: PodGroupSchedulingPolicy { gang: Some(gang), basic: None },
        ..PodGroupTemplate::default()
    };
    let controller = TypedLocalObjectReference {
        api_group: Some("batch".to_owned()),
        kind: "Job".to_owned(),
        name: job.name().to_owned(),
    };
    Workload {
        metadata: ObjectMeta {
            name: Some(workload_name(job)),
            namespace: Some(job.namespace().to_owned()),
            owner_references: Some(vec![controller_reference(job)]),
            ..ObjectMeta::default()
        },
        spec: WorkloadSpec { controller_ref: Some(controller), pod_group_templates: vec![template] },
    }
}

fn new_group(job: &Job, workload: &Workload) -> Option<PodGroup> {
    let template = workload.spec.pod_group_templates.first()?;
    let of_template = WorkloadPodGroupTemplateReference {
        workload_name: workload.name().to_owned(),
        pod_group_template_name: template.name.clone(),
    };
    Some(PodGroup {
        metadata: ObjectMeta {
            name: Some(group_name(workload.name(), &template.name)),
            namespace: Some(job.namespace().to_owned()),
            owner_references: Some(vec![controller_reference(job), reference(workload)]),
            ..ObjectMeta::default()
        },
        spec: PodGroupSpec {
            pod_group_template_ref: Some(PodGroupTemplateReference { workload: Some(of_template) }),
            scheduling_policy: template.scheduling_policy.clone(),
            ..PodGroupSpec::default()
        },
        status: None,
    })
}

/// Creates an object, or takes the one that the cache does not show yet. None when that is not of the job's making.
async fn create<T: Kind>(client: &Client, job: &Job, wanted: &T) -> Result<Option<(T, bool)>, Error> {
    match client.create(wanted).await {
        Ok(made) => Ok(Some((made, true))),
        Err(error) if error.is_already_exists() => {
            let found = client.get::<T>(wanted.namespace(), wanted.name()).await?;
            Ok(controlled(&found, job).then_some((found, false)))
        }
        Err(error) => Err(error),
    }
}

impl Gangs {
    /// None without the gate.
    pub(super) fn new(context: &Context) -> Option<Self> {
        if !context.options.job_gangs {
            return None;
        }
        let (workloads, groups) = (context.factory.informer::<Workload>(), context.factory.informer::<PodGroup>());
        workloads.add_index(BY_JOB, |workload| job_of(workload).into_iter().collect());
        groups.add_index(BY_WORKLOAD, |group| workload_of(group).into_iter().collect());
        Some(Self { workloads, groups })
    }

    /// Waits until the caches are filled.
    pub(super) async fn synced(&self) {
        self.workloads.synced().await;
        self.groups.synced().await;
    }

    /// The group that the job's pods are scheduled with, made when it is not there; none when they are scheduled one by one.
    ///
    /// # Errors
    /// It could not be made.
    pub(super) async fn ensure(
        &self,
        context: &Context,
        job: &Job,
        pods: &[Arc<Pod>],
    ) -> Result<Option<Arc<PodGroup>>, Error> {
        if !is_gang(job) {
            return Ok(None);
        }
        let Some(workload) = self.workload(context, job, pods).await? else { return Ok(None) };
        let there = self.groups.cache().by_index(BY_WORKLOAD, &workload.key());
        match there.as_slice() {
            [] => {
                let Some(wanted) = new_group(job, &workload) else { return Ok(None) };
                let made = create(&context.client, job, &wanted).await?;
                Ok(made.map(|(group, _)| Arc::new(group)))
            }
            [one] if controlled(&**one, job) => Ok(Some(one.clone())),
            _ => {
                tracing::warn!(job = job.key(), "the job's pod groups are not of its making: scheduled one by one");
                Ok(None)
            }
        }
    }

    async fn workload(&self, context: &Context, job: &Job, pods: &[Arc<Pod>]) -> Result<Option<Arc<Workload>>, Error> {
        let there = self.workloads.cache().by_index(BY_JOB, &job.key());
        match there.as_slice() {
            [] if is_new(job, pods) => {
                let made = create(&context.client, job, &new_workload(job)).await?;
                if let Some((workload, true)) = &made {
                    let text = format!("Created Workload {} for Job {}", workload.name(), job.name());
                    context.recorder.event(job, EventType::Normal, "WorkloadCreated", text);
                }
                Ok(made.map(|(workload, _)| Arc::new(workload)))
            }
            [] => Ok(None),
            [one] if controlled(&**one, job) && one.spec.pod_group_templates.len() == 1 => Ok(Some(one.clone())),
            _ => {
                tracing::warn!(job = job.key(), "the job's workloads are not of its making: scheduled one by one");
                Ok(None)
            }
        }
    }
}

/// Puts a pod into the group.
pub(super) fn join(pod: &mut Pod, group: &PodGroup) {
    let name = Some(group.name().to_owned());
    pod.spec.get_or_insert_default().scheduling_group = Some(PodSchedulingGroup { pod_group_name: name });
    let owners = pod.metadata.owner_references.get_or_insert_default();
    owners.push(reference(group));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(mode: &str, parallelism: i32, completions: i32) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "j", "namespace": "ns", "uid": "u"},
            "spec": {
                "completionMode": mode, "parallelism": parallelism, "completions": completions,
                "template": {"spec": {"containers": []}},
            },
        }))
        .unwrap()
    }

    #[test]
    fn which_jobs_are_gangs() {
        for (mode, parallelism, completions, want) in
            [("Indexed", 3, 3, true), ("Indexed", 1, 1, false), ("Indexed", 2, 3, false), ("NonIndexed", 3, 3, false)]
        {
            assert_eq!(is_gang(&job(mode, parallelism, completions)), want, "{mode} {parallelism}/{completions}");
        }
        let mut grouped = job("Indexed", 3, 3);
        let template = &mut grouped.spec.get_or_insert_default().template.spec;
        template.get_or_insert_default().scheduling_group = Some(PodSchedulingGroup::default());
        assert!(!is_gang(&grouped));
    }

    #[test]
    fn what_is_made() {
        let job = job("Indexed", 3, 3);
        assert!(is_new(&job, &[]) && !is_new(&job, &[Arc::default()]));
        let workload = new_workload(&job);
        assert_eq!(job_of(&workload).as_deref(), Some("ns/j"));
        let group = new_group(&job, &workload).unwrap();
        assert_eq!(workload_of(&group), Some(workload.key()));
        assert_eq!(group.spec.scheduling_policy.gang.as_ref().map(|g| g.min_count), Some(3));
        assert!(controlled(&group, &job) && controlled(&workload, &job));
        let mut pod = Pod::default();
        join(&mut pod, &group);
        assert!(pod.controller_ref().is_none());
        let long = group_name(&"w".repeat(250), &"t".repeat(250));
        assert!(long.len() <= LONGEST && long.contains("w-t"), "{long}");
        assert!(group_name("a", &"t".repeat(300)).starts_with("a-t"));
    }
}
