//! The cells of a pod: upstream's STATUS column is a small decision tree over container states.

use meta::Object;
use serde_json::Value;

use crate::printer::{age, human, list, or_none, str_in};

/// Cells for all columns, the wide ones last.
pub fn cells(pod: &Object, now: i64) -> Vec<Value> {
    let mut summary = Summary::new(pod);
    if !summary.init_containers(pod) || condition(pod, "Initialized") {
        summary.containers(pod);
    }
    let ended = matches!(pod.get_str(&["status", "phase"]), "Failed" | "Succeeded");
    if pod.deletion_timestamp().is_some() {
        if pod.get_str(&["status", "reason"]) == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !ended {
            summary.reason = "Terminating".to_owned();
        }
    }
    let restarts = match summary.last_restart {
        Some(at) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, human(now - at)),
        _ => summary.restarts.to_string(),
    };
    let ip = list(pod, &["status", "podIPs"]).first().map_or("", |ip| str_in(ip, "ip"));
    vec![
        pod.name().into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now).into(),
        or_none(ip),
        or_none(pod.get_str(&["spec", "nodeName"])),
        or_none(pod.get_str(&["status", "nominatedNodeName"])),
        readiness_gates(pod).into(),
    ]
}

struct Summary {
    reason: String,
    restarts: i64,
    last_restart: Option<i64>,
    ready: usize,
    total: usize,
    sidecar_restarts: i64,
    sidecar_last_restart: Option<i64>,
}

impl Summary {
    fn new(pod: &Object) -> Self {
        let mut reason = pod.get_str(&["status", "reason"]);
        if reason.is_empty() {
            reason = pod.get_str(&["status", "phase"]);
        }
        if list(pod, &["status", "conditions"])
            .iter()
            .any(|c| str_in(c, "type") == "PodScheduled" && str_in(c, "reason") == "SchedulingGated")
        {
            reason = "SchedulingGated";
        }
        let sidecars = list(pod, &["spec", "initContainers"]).iter().filter(|c| is_sidecar(c)).count();
        Self {
            reason: reason.to_owned(),
            restarts: 0,
            last_restart: None,
            ready: 0,
            total: list(pod, &["spec", "containers"]).len() + sidecars,
            sidecar_restarts: 0,
            sidecar_last_restart: None,
        }
    }

    /// Takes in the init containers; says whether the pod is still initialising.
    fn init_containers(&mut self, pod: &Object) -> bool {
        let specs = list(pod, &["spec", "initContainers"]);
        for (index, status) in list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
            let sidecar = specs.iter().any(|c| c.get("name") == status.get("name") && is_sidecar(c));
            let (count, last) = (restart_count(status), last_restart(status));
            self.restarts += count;
            self.last_restart = self.last_restart.max(last);
            if sidecar {
                self.sidecar_restarts += count;
                self.sidecar_last_restart = self.sidecar_last_restart.max(last);
            }
            let flag = |name: &str| status.get(name).and_then(Value::as_bool) == Some(true);
            let ended = state(status, "terminated");
            if ended.is_some_and(|t| exit_code(t) == 0) {
                continue;
            }
            if sidecar && flag("started") {
                self.ready += usize::from(flag("ready"));
                continue;
            }
            let waiting = state(status, "waiting").map(|w| str_in(w, "reason")).unwrap_or("");
            self.reason = match ended {
                Some(ended) => format!("Init:{}", ended_reason(ended)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn containers(&mut self, pod: &Object) {
        self.restarts = self.sidecar_restarts;
        self.last_restart = self.sidecar_last_restart;
        let mut running = false;
        let mut error = String::new();
        for status in list(pod, &["status", "containerStatuses"]).iter().rev() {
            self.restarts += restart_count(status);
            self.last_restart = self.last_restart.max(last_restart(status));
            let waiting = state(status, "waiting").map(|w| str_in(w, "reason")).unwrap_or("");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(ended) = state(status, "terminated") {
                self.reason = ended_reason(ended);
                if exit_code(ended) != 0 {
                    error = self.reason.clone();
                }
            } else if status.get("ready").and_then(Value::as_bool) == Some(true) && state(status, "running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && condition(pod, "Ready") {
                self.reason = "Running".to_owned();
            } else if !error.is_empty() {
                self.reason = error;
            } else if running {
                self.reason = "NotReady".to_owned();
            }
        }
    }
}

fn is_sidecar(container: &Value) -> bool {
    str_in(container, "restartPolicy") == "Always"
}

fn state<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status.get("state")?.get(name).filter(|v| !v.is_null())
}

fn exit_code(ended: &Value) -> i64 {
    ended.get("exitCode").and_then(Value::as_i64).unwrap_or(0)
}

fn ended_reason(ended: &Value) -> String {
    let reason = str_in(ended, "reason");
    match ended.get("signal").and_then(Value::as_i64).unwrap_or(0) {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", exit_code(ended)),
        signal => format!("Signal:{signal}"),
    }
}

fn restart_count(status: &Value) -> i64 {
    status.get("restartCount").and_then(Value::as_i64).unwrap_or(0)
}

fn last_restart(status: &Value) -> Option<i64> {
    let at = status.get("lastState")?.get("terminated")?.get("finishedAt")?.as_str()?;
    meta::time::parse(at).ok().map(|t| t.as_second())
}

fn condition(pod: &Object, kind: &str) -> bool {
    let conditions = list(pod, &["status", "conditions"]);
    conditions.iter().any(|c| str_in(c, "type") == kind && str_in(c, "status") == "True")
}

fn readiness_gates(pod: &Object) -> String {
    let gates = list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return crate::printer::NONE.to_owned();
    }
    let open = gates.iter().filter(|gate| condition(pod, str_in(gate, "conditionType"))).count();
    format!("{open}/{}", gates.len())
}
