//! The status of a pod, from what the runtime has, what was told before, and probe results.

use node_api::ContainerState as State;
use rt::HashMap;
use rt::time::Timestamp;
use volumes::quantity::{ResourceList, milli, value};

use crate::k8s::core::{ContainerUser, HostIP, LinuxContainerUser, PodIP, ResourceRequirements, VolumeMountStatus};
use crate::k8s::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Kind, Pod, PodExt, PodStatus, Quantity, ephemeral_as_container, is_sidecar, seconds, time,
};
use crate::pod::observed::{Observed, restart_count};
use crate::pod::plan::ProbeResults;
use crate::pod::{conditions, phase, qos, restart};

/// Why a container waits: CamelCase reason and text.
pub type Waiting = (String, String);

/// Readiness besides the results the plan uses.
pub trait Readiness: ProbeResults {
    /// Readiness; `None` while the probe has no result.
    fn readiness(&self, container_id: &str) -> Option<bool>;
}

/// Everything a status is made of.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What the runtime has.
    pub observed: &'a Observed,
    /// What was told last.
    pub old: &'a PodStatus,
    /// Why containers wait, by name.
    pub waiting: &'a HashMap<String, Waiting>,
    /// Probe results.
    pub probes: &'a dyn Readiness,
    /// Nothing will run again.
    pub terminal: bool,
    /// A phase decided otherwise, with reason and message (deadline, admission).
    pub verdict: Option<&'a Verdict>,
    /// The node's addresses.
    pub host_ips: &'a [String],
    /// The runtime's name, for container ids.
    pub runtime_name: &'a str,
    /// The wall clock.
    pub now: Timestamp,
}

/// A phase that was decided and not computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Phase.
    pub phase: &'static str,
    /// CamelCase reason.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Whether the node never took the pod in: no container is told of then.
    pub rejected: bool,
}

/// Computes the status.
#[must_use]
pub fn generate(inputs: &Inputs<'_>) -> PodStatus {
    let (pod, old) = (inputs.pod, inputs.old);
    let spec = pod.spec();
    let init = list(inputs, pod.init_containers(), old.init_container_statuses.as_deref(), ListKind::Init);
    let main = list(inputs, &spec.containers, old.container_statuses.as_deref(), ListKind::Main);
    let ephemeral: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(ephemeral_as_container).collect();
    let ephemeral = list(inputs, &ephemeral, old.ephemeral_container_statuses.as_deref(), ListKind::Ephemeral);
    let all: Vec<ContainerStatus> = main.iter().chain(&init).cloned().collect();
    let main_started = spec.containers.iter().any(|c| inputs.observed.latest(&c.name).is_some());
    let mut status = PodStatus {
        phase: Some(decide_phase(inputs, &all, main_started)),
        observed_generation: pod.metadata.generation,
        qos_class: Some(qos::class(pod).to_owned()),
        start_time: old.start_time.clone().or_else(|| Some(seconds(inputs.now))),
        // Owned by others, and passed on.
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        ..PodStatus::default()
    };
    let phase = status.phase.clone().unwrap_or_default();
    if old.phase.as_deref() == Some(phase.as_str()) {
        status.reason.clone_from(&old.reason);
        status.message.clone_from(&old.message);
    }
    if let Some(verdict) = inputs.verdict.filter(|v| inputs.terminal && v.phase == phase) {
        status.reason = Some(verdict.reason.clone()).filter(|r| !r.is_empty());
        status.message = Some(verdict.message.clone()).filter(|m| !m.is_empty());
    }
    let told = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let others: Vec<_> = told.iter().filter(|c| !conditions::OWNED.contains(&c.type_.as_str())).cloned().collect();
    let mut owned = conditions::generate(pod, inputs.observed, &all, &phase, &others);
    conditions::keep_times(&mut owned, old, &seconds(inputs.now));
    status.conditions = Some(others.into_iter().chain(owned).collect());
    addresses(inputs, &mut status);
    let rejected = inputs.verdict.is_some_and(|v| v.rejected);
    let some = |list: Vec<ContainerStatus>| (!rejected && !list.is_empty()).then_some(list);
    (status.init_container_statuses, status.container_statuses) = (some(init), some(main));
    status.ephemeral_container_statuses = some(ephemeral);
    status
}

fn decide_phase(inputs: &Inputs<'_>, all: &[ContainerStatus], main_started: bool) -> String {
    let over = |p: &str| matches!(p, "Succeeded" | "Failed");
    // The API server's and our own terminal word is never taken back.
    for told in [inputs.pod.status.as_ref(), Some(inputs.old)].into_iter().flatten() {
        if let Some(told) = told.phase.as_deref().filter(|p| over(p)) {
            return told.to_owned();
        }
    }
    if let Some(verdict) = inputs.verdict.filter(|_| inputs.terminal) {
        return verdict.phase.to_owned();
    }
    let computed = phase::phase(inputs.pod, all, inputs.terminal, main_started);
    if inputs.terminal && !over(computed) && !inputs.pod.is_static() {
        return "Failed".to_owned();
    }
    // A pod whose mains have ended stays Running until the sidecars have, too.
    if over(computed) && !inputs.terminal && inputs.observed.running().next().is_some() {
        return inputs.old.phase.clone().unwrap_or_else(|| "Running".to_owned());
    }
    computed.to_owned()
}

fn addresses(inputs: &Inputs<'_>, status: &mut PodStatus) {
    let mut ips: Vec<String> = if inputs.pod.host_network() {
        inputs.host_ips.to_vec()
    } else {
        let current =
            inputs.observed.sandboxes.first().map(|s| s.network.iter().map(ToString::to_string).collect::<Vec<_>>());
        current.unwrap_or_default()
    };
    if ips.is_empty() {
        // An ended pod keeps its address on record.
        ips = inputs.old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
    status.host_ip = inputs.host_ips.first().cloned();
    status.host_ips =
        (!inputs.host_ips.is_empty()).then(|| inputs.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ListKind {
    Init,
    Main,
    Ephemeral,
}

fn list(
    inputs: &Inputs<'_>,
    containers: &[Container],
    old: Option<&[ContainerStatus]>,
    kind: ListKind,
) -> Vec<ContainerStatus> {
    let old = old.unwrap_or_default();
    let mut out: Vec<ContainerStatus> =
        containers.iter().map(|c| one(inputs, c, old.iter().find(|s| s.name == c.name), kind)).collect();
    if kind != ListKind::Init {
        out.sort_by(|a, b| a.name.cmp(&b.name));
    }
    out
}

fn one(inputs: &Inputs<'_>, container: &Container, old: Option<&ContainerStatus>, kind: ListKind) -> ContainerStatus {
    // A container that is made and not started yet is about to be: until then the former state holds.
    let mut runs = inputs.observed.of_name(&container.name).filter(|run| run.state != State::Created);
    let mut status = match runs.next() {
        Some(latest) => {
            let mut status = convert(inputs, container, latest, old);
            if let Some(previous) = runs.next() {
                status.last_state = Some(state_of(inputs, previous, None));
            } else if let Some(before) = old.and_then(|o| o.last_state.clone()) {
                status.last_state = Some(before);
            }
            status
        }
        None => absent(inputs, container, old, kind),
    };
    let known = inputs.observed.latest(&container.name).is_some();
    waiting(inputs, container, &mut status, known, kind);
    flags(inputs, container, &mut status, old, kind);
    status
}

/// A container the runtime does not know (yet, or any more).
fn absent(
    inputs: &Inputs<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    kind: ListKind,
) -> ContainerStatus {
    let reason = if kind == ListKind::Main && !inputs.pod.init_containers().is_empty()
        || kind == ListKind::Init && !inputs.pod.init_containers().is_empty()
    {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting_state(reason, "")),
        last_state: Some(ContainerState::default()),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return status };
    let state = old.state.as_ref();
    if state.is_some_and(|s| s.terminated.is_some()) {
        return old.clone();
    }
    status.restart_count = old.restart_count;
    status.last_state.clone_from(&old.last_state);
    let lost =
        state.is_some_and(|s| s.running.is_some()) && old.last_state.as_ref().is_none_or(|l| l.terminated.is_none());
    if lost {
        let message = "The container could not be located when the pod was deleted.  The container used to be Running";
        status.last_state = Some(lost_state(message));
        status.restart_count += i32::from(!inputs.pod.is_deleting());
    }
    status
}

fn lost_state(message: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            reason: Some(node_api::REASON_UNKNOWN.to_owned()),
            message: Some(message.to_owned()),
            exit_code: 137,
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn waiting_state(reason: &str, message: &str) -> ContainerState {
    let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: text(reason), message: text(message) }),
        ..ContainerState::default()
    }
}

fn convert(
    inputs: &Inputs<'_>,
    container: &Container,
    run: &node_api::ContainerStatus,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let image =
        if run.image.user_specified_image.is_empty() { &run.image.image } else { &run.image.user_specified_image };
    let requests = container.resources.as_ref().and_then(|r| r.requests.clone());
    ContainerStatus {
        name: container.name.clone(),
        restart_count: i32::try_from(restart_count(run)).unwrap_or(i32::MAX),
        image: image.clone(),
        image_id: run.image_ref.clone(),
        container_id: Some(format!("{}://{}", inputs.runtime_name, run.id)),
        state: Some(state_of(inputs, run, old)),
        last_state: Some(ContainerState::default()),
        resources: Some(actual_resources(container, run)),
        allocated_resources: requests,
        user: run.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: (!user.supplemental_groups.is_empty()).then(|| user.supplemental_groups.clone()),
            }),
        }),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    }
}

/// The resources in effect: the allocated ones, save where the runtime still has others.
fn actual_resources(container: &Container, run: &node_api::ContainerStatus) -> ResourceRequirements {
    use crate::spec::resources::{quota, shares};
    let mut out = container.resources.clone().unwrap_or_default();
    if run.state != State::Running {
        return out;
    }
    let has = &run.resources;
    let set = |list: &mut Option<ResourceList>, name: &str, text: String| {
        list.get_or_insert_default().insert(name.to_owned(), Quantity(text));
    };
    if let Some(limit) = milli(out.limits.as_ref(), "cpu")
        && has.cpu_quota > 0
        && has.cpu_quota != quota(limit)
    {
        set(&mut out.limits, "cpu", format!("{}m", has.cpu_quota * 1000 / has.cpu_period.max(1)));
    }
    if let Some(limit) = value(out.limits.as_ref(), "memory")
        && has.memory_limit_bytes > 0
        && has.memory_limit_bytes != limit
    {
        set(&mut out.limits, "memory", has.memory_limit_bytes.to_string());
    }
    if let Some(request) = milli(out.requests.as_ref(), "cpu")
        && has.cpu_shares > 0
        && has.cpu_shares != shares(request)
    {
        set(&mut out.requests, "cpu", format!("{}m", (has.cpu_shares * 1000 + 1023) / 1024));
    }
    out
}

fn state_of(inputs: &Inputs<'_>, run: &node_api::ContainerStatus, old: Option<&ContainerStatus>) -> ContainerState {
    let id = format!("{}://{}", inputs.runtime_name, run.id);
    match run.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: time(run.started_at) }),
            ..ContainerState::default()
        },
        State::Exited => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: run.exit_code,
                reason: Some(run.reason.clone()).filter(|r| !r.is_empty()),
                message: Some(run.message.clone()).filter(|m| !m.is_empty()),
                started_at: time(run.started_at).or_else(|| time(run.created_at)),
                finished_at: time(run.finished_at),
                container_id: Some(id),
                signal: None,
            }),
            ..ContainerState::default()
        },
        State::Unknown if old.and_then(|o| o.state.as_ref()).is_some_and(|s| s.running.is_some()) => {
            lost_state("The container could not be located when the pod was terminated")
        }
        State::Created | State::Unknown => {
            ContainerState { waiting: Some(ContainerStateWaiting::default()), ..ContainerState::default() }
        }
    }
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let one = |m: &crate::k8s::core::VolumeMount| {
        let read_only = m.read_only.unwrap_or(false);
        let wanted = matches!(m.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| if wanted { "Enabled" } else { "Disabled" }.to_owned()),
            volume_status: None,
        }
    };
    Some(mounts.iter().map(one).collect())
}

/// Puts the reason for waiting in place of the state, where the container is about to be started.
fn waiting(inputs: &Inputs<'_>, container: &Container, status: &mut ContainerStatus, known: bool, kind: ListKind) {
    if kind == ListKind::Init {
        if restart::succeeded(container, inputs.observed) && !is_sidecar(container) {
            return;
        }
        let waits = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
        if !known && waits && !is_sidecar(container) && inputs.observed.any_main_created(inputs.pod) {
            status.state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    reason: Some("Completed".to_owned()),
                    message: Some(
                        "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
                            .to_owned(),
                    ),
                    exit_code: 0,
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            });
            return;
        }
    }
    if inputs.terminal || !restart::wanted(container, inputs.pod, inputs.observed) {
        return;
    }
    let Some((reason, message)) = inputs.waiting.get(&container.name) else { return };
    if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        status.last_state = status.state.take();
    }
    status.state = Some(waiting_state(reason, message));
}

fn flags(
    inputs: &Inputs<'_>,
    container: &Container,
    status: &mut ContainerStatus,
    old: Option<&ContainerStatus>,
    kind: ListKind,
) {
    let same = |o: &&ContainerStatus| o.container_id.is_some() && o.container_id == status.container_id;
    let old = old.filter(same);
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    let id = inputs.observed.latest(&container.name).map(|s| s.id.as_str()).unwrap_or_default();
    let started = running
        && match (&container.startup_probe, inputs.probes.startup(id)) {
            (None, _) | (_, Some(true)) => true,
            (_, Some(false)) => false,
            (_, None) => old.is_some_and(|o| o.started == Some(true)),
        };
    let ended_well = status.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0);
    match kind {
        ListKind::Ephemeral => return,
        ListKind::Init if !is_sidecar(container) => {
            status.started = Some(started);
            status.ready = ended_well;
            return;
        }
        _ => {}
    }
    status.started = Some(started);
    status.ready = started
        && match (&container.readiness_probe, inputs.probes.readiness(id)) {
            (None, _) | (_, Some(true)) => true,
            (_, Some(false)) => false,
            (_, None) => old.is_some_and(|o| o.ready),
        };
}

/// The last status of a pod whose containers are all gone: what has no end yet gets one.
#[must_use]
pub fn finish(mut status: PodStatus) -> PodStatus {
    let message = "The container could not be located when the pod was terminated";
    let initialized = status.container_statuses.iter().flatten().any(|s| {
        s.state.as_ref().is_some_and(|st| st.running.is_some() || st.terminated.is_some())
            || s.last_state.as_ref().is_some_and(|l| l.terminated.is_some())
    });
    for container in status.container_statuses.iter_mut().flatten().filter(|_| initialized) {
        if container.state.as_ref().is_none_or(|s| s.terminated.is_none()) {
            container.state = Some(lost_state(message));
            (container.ready, container.started) = (false, Some(false));
        }
    }
    status
}
