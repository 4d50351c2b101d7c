//! The statuses that hollow nodes write.

use api::prelude::Pod;
use api::prelude::Time;
use rt::time::Timestamp;
use serde_json::{Value, json};

use crate::NodeSpec;
use crate::plan::{Containers, Local};

/// The host address of all hollow nodes; nothing answers there.
const HOST_ADDRESS: &str = "192.0.2.1";

fn time(at: Timestamp) -> Value {
    json!(Time(at))
}

fn container(name: &str, image: &str, local: &Local, now: Timestamp) -> Value {
    let (state, running) = match local.containers {
        Containers::Running { since, .. } | Containers::Stopping { since, .. } => {
            (json!({"running": {"startedAt": time(since)}}), true)
        }
        Containers::Ended { code } => {
            let reason = if code == 0 { "Completed" } else { "Error" };
            (json!({"terminated": {"exitCode": code, "reason": reason, "finishedAt": time(now)}}), false)
        }
        Containers::Starting { .. } | Containers::Lost if local.restarts > 0 => {
            (json!({"waiting": {"reason": "CrashLoopBackOff"}}), false)
        }
        Containers::Starting { .. } | Containers::Lost => (json!({"waiting": {"reason": "ContainerCreating"}}), false),
    };
    json!({
        "name": name, "image": image, "imageID": image, "containerID": format!("hollow://{}/{name}", local.uid),
        "ready": running, "started": running, "restartCount": local.restarts, "state": state,
    })
}

fn condition(kind: &str, met: bool, reason: &str, now: Timestamp) -> Value {
    let status = if met { "True" } else { "False" };
    // A null takes away what an earlier state left.
    let reason = Some(reason).filter(|r| !r.is_empty());
    json!({"type": kind, "status": status, "reason": reason, "message": null, "lastTransitionTime": time(now)})
}

/// A patch (strategic merge) of the pod's status, for this very version of the pod only.
pub(crate) fn of_pod(pod: &Pod, local: &Local) -> Value {
    let now = rt::time::now();
    let (phase, ready, reason) = match local.containers {
        Containers::Running { .. } | Containers::Stopping { .. } => ("Running", true, ""),
        Containers::Ended { code: 0 } => ("Succeeded", false, "PodCompleted"),
        Containers::Ended { .. } => ("Failed", false, "PodFailed"),
        _ if local.restarts > 0 => ("Running", false, "ContainersNotReady"),
        _ => ("Pending", false, "ContainersNotReady"),
    };
    let spec = pod.spec.as_ref();
    let containers: Vec<Value> = spec
        .map(|s| s.containers.as_slice())
        .unwrap_or_default()
        .iter()
        .map(|c| container(&c.name, c.image.as_deref().unwrap_or_default(), local, now))
        .collect();
    let started = pod.status.as_ref().and_then(|s| s.start_time.clone()).map_or(now, |t| t.0);
    json!({
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": {
            "phase": phase,
            "hostIP": HOST_ADDRESS, "hostIPs": [{"ip": HOST_ADDRESS}],
            "podIP": local.address, "podIPs": [{"ip": local.address}],
            "startTime": time(started),
            "observedGeneration": pod.metadata.generation,
            "conditions": [
                condition("PodReadyToStartContainers", !matches!(local.containers, Containers::Ended { .. }), "", now),
                condition("Initialized", true, "", now),
                condition("Ready", ready, reason, now),
                condition("ContainersReady", ready, reason, now),
            ],
            "containerStatuses": containers,
        },
    })
}

/// A node's status.
pub(crate) fn of_node(spec: &NodeSpec) -> Value {
    let now = rt::time::now();
    let resources: serde_json::Map<String, Value> =
        spec.capacity.iter().map(|(name, quantity)| (name.clone(), quantity.as_str().into())).collect();
    let heard = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "a hollow node",
            "lastHeartbeatTime": time(now), "lastTransitionTime": time(now),
        })
    };
    json!({
        "capacity": resources, "allocatable": resources,
        "conditions": [
            heard("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            heard("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            heard("PIDPressure", "False", "KubeletHasSufficientPID"),
            heard("Ready", "True", "KubeletReady"),
        ],
        "addresses": [{"type": "InternalIP", "address": HOST_ADDRESS}, {"type": "Hostname", "address": spec.name}],
        "nodeInfo": {
            "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "hollow", "osImage": "hollow",
            "containerRuntimeVersion": "hollow://1", "kubeletVersion": "v1.36.0", "kubeProxyVersion": "",
            "operatingSystem": "linux", "architecture": architecture(),
        },
    })
}

/// Go's name of this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
