//! The phase of a pod, from its containers' statuses.

use crate::k8s::{Container, ContainerStatus, Pod, PodExt, is_sidecar};
use crate::pod::restart;

#[derive(Default)]
struct Counts {
    pending_init: usize,
    pending_sidecars: usize,
    failed_init: usize,
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

/// Computes the phase. `terminal`: nothing of the pod will run again, whatever its policy says.
#[must_use]
pub fn phase(pod: &Pod, statuses: &[ContainerStatus], terminal: bool, main_started: bool) -> &'static str {
    let mut counts = Counts::default();
    for container in pod.init_containers() {
        let status = find(statuses, container);
        if is_sidecar(container) { counts.sidecar(status) } else { counts.init(container, pod, status) }
    }
    for container in &pod.spec().containers {
        counts.main(container, pod, find(statuses, container));
    }
    if counts.failed_init > 0 {
        return "Failed";
    }
    let pending = counts.pending_init > 0 || (counts.pending_sidecars > 0 && !main_started) || counts.waiting > 0;
    if pending {
        return "Pending";
    }
    if counts.running > 0 && counts.unknown == 0 {
        return "Running";
    }
    if counts.running == 0 && counts.stopped > 0 && counts.unknown == 0 {
        let over = (terminal && !pod.is_static()) || counts.stopped == counts.stopped_for_good;
        return match (over, counts.stopped == counts.succeeded) {
            (false, _) => "Running",
            (true, true) => "Succeeded",
            (true, false) => "Failed",
        };
    }
    "Pending"
}

fn find<'a>(statuses: &'a [ContainerStatus], container: &Container) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == container.name)
}

/// The state a status is in, with the exit code of the last end.
enum State {
    Running,
    Ended(i32),
    /// Waiting after an end.
    Again(i32),
    /// Waiting for the first time.
    Waiting,
    None,
}

fn state(status: &ContainerStatus) -> State {
    let Some(state) = &status.state else { return State::None };
    if state.running.is_some() {
        State::Running
    } else if let Some(end) = &state.terminated {
        State::Ended(end.exit_code)
    } else if state.waiting.is_some() {
        match status.last_state.as_ref().and_then(|l| l.terminated.as_ref()) {
            Some(end) => State::Again(end.exit_code),
            None => State::Waiting,
        }
    } else {
        State::None
    }
}

impl Counts {
    fn init(&mut self, container: &Container, pod: &Pod, status: Option<&ContainerStatus>) {
        match status.map_or(State::None, state) {
            State::Ended(code) | State::Again(code) => {
                if code != 0 && !restart::after_exit(container, pod, code) {
                    self.failed_init += 1;
                }
            }
            _ => self.pending_init += 1,
        }
    }

    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        match status.map_or(State::None, state) {
            State::Running => {
                self.running += 1;
                self.pending_sidecars += usize::from(status.and_then(|s| s.started) != Some(true));
            }
            State::Ended(_) | State::Again(_) => {}
            State::Waiting => {
                self.pending_sidecars += 1;
                self.waiting += 1;
            }
            State::None => {
                self.pending_sidecars += usize::from(status.is_some());
                self.unknown += 1;
            }
        }
    }

    fn main(&mut self, container: &Container, pod: &Pod, status: Option<&ContainerStatus>) {
        match status.map_or(State::None, state) {
            State::Running => self.running += 1,
            State::Ended(code) => {
                self.stopped += 1;
                self.stopped_for_good += usize::from(!restart::after_exit(container, pod, code));
                self.succeeded += usize::from(code == 0);
            }
            State::Again(code) => {
                self.stopped += 1;
                self.stopped_for_good += usize::from(!restart::after_exit(container, pod, code));
            }
            State::Waiting => self.waiting += 1,
            State::None => self.unknown += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(text: &str) -> ContainerStatus {
        let (name, state) = text.split_once(':').unwrap();
        let (state, last) = match state {
            "run" => (json!({"running": {}}), json!({})),
            "wait" => (json!({"waiting": {}}), json!({})),
            "again" => (json!({"waiting": {}}), json!({"terminated": {"exitCode": 1}})),
            code => (json!({"terminated": {"exitCode": code.parse::<i32>().unwrap()}}), json!({})),
        };
        serde_json::from_value(json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state, "lastState": last}))
        .unwrap()
    }

    #[test]
    fn phases() {
        for (policy, terminal, statuses, expected) in [
            ("Always", false, vec![], "Pending"),
            ("Always", false, vec!["x:run"], "Pending"),
            ("Always", false, vec!["x:0", "a:wait", "b:run"], "Pending"),
            ("Always", false, vec!["x:0", "a:run", "b:again"], "Running"),
            ("Always", false, vec!["x:0", "a:0", "b:0"], "Running"),
            ("Always", true, vec!["x:0", "a:0", "b:0"], "Succeeded"),
            ("Always", true, vec!["x:0", "a:0", "b:1"], "Failed"),
            ("OnFailure", false, vec!["x:0", "a:0", "b:1"], "Running"),
            ("OnFailure", false, vec!["x:0", "a:0", "b:0"], "Succeeded"),
            ("Never", false, vec!["x:0", "a:0", "b:1"], "Failed"),
            ("Never", false, vec!["x:1"], "Failed"),
            ("Always", false, vec!["x:1", "a:wait", "b:wait"], "Pending"),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"restartPolicy": policy,
                "initContainers": [{"name": "x"}], "containers": [{"name": "a"}, {"name": "b"}]}}))
            .unwrap();
            let list: Vec<ContainerStatus> = statuses.iter().map(|s| status(s)).collect();
            assert_eq!(phase(&pod, &list, terminal, false), expected, "{policy} {terminal} {statuses:?}");
        }
    }
}
