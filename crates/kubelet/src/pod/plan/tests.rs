//! A table: pod, what the runtime has, probe results → plan.

use std::sync::Arc;

use node_api::{ContainerMetadata, ContainerStatus, PodSandboxMetadata, PodSandboxState, PodSandboxStatus};
use serde_json::json;

use super::*;

struct Probes(Vec<&'static str>);
impl ProbeResults for Probes {
    fn liveness(&self, id: &str) -> Option<bool> {
        self.0.contains(&format!("{id}-dead").as_str()).then_some(false)
    }
    fn startup(&self, id: &str) -> Option<bool> {
        if self.0.contains(&format!("{id}-started").as_str()) { Some(true) } else { None }
    }
}

fn pod(policy: &str, init: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": init,
                 "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]},
    }))
    .unwrap()
}

/// `a:run`, `a:0`, `a:1` (exit code), `a:new`, `a:unknown`; ids are the names.
fn observed(sandbox: Option<PodSandboxState>, containers: &[&str]) -> Observed {
    let sandboxes = sandbox.into_iter().map(|state| {
        let metadata = PodSandboxMetadata { attempt: 3, ..PodSandboxMetadata::default() };
        let network = vec!["10.0.0.2".parse().unwrap()];
        Arc::new(PodSandboxStatus { id: "s".to_owned(), state, metadata, network, ..PodSandboxStatus::default() })
    });
    let containers = containers.iter().map(|text| {
        let (name, state) = text.split_once(':').unwrap();
        let (state, exit_code) = match state {
            "run" => (ContainerState::Running, 0),
            "new" => (ContainerState::Created, 0),
            "unknown" => (ContainerState::Unknown, 0),
            code => (ContainerState::Exited, code.parse().unwrap()),
        };
        let metadata = ContainerMetadata { name: name.to_owned(), attempt: 0 };
        Arc::new(ContainerStatus { id: name.to_owned(), metadata, state, exit_code, ..ContainerStatus::default() })
    });
    Observed::new(sandboxes.collect(), containers.collect())
}

fn show(plan: &Plan) -> String {
    let mut parts = Vec::new();
    if plan.kill_pod {
        parts.push("kill-pod".to_owned());
    }
    parts.extend(plan.create_sandbox.map(|n| format!("sandbox-{n}")));
    parts.extend(plan.kill.iter().map(|k| format!("kill-{}", k.name)));
    parts.extend(plan.start.iter().map(|s| {
        format!(
            "start-{}{}",
            match s.kind {
                Kind::Main => "m",
                Kind::Init => "i",
                Kind::Ephemeral => "e",
            },
            s.index
        )
    }));
    parts.join(" ")
}

#[test]
fn plans() {
    use PodSandboxState::{NotReady, Ready};
    let none = json!([]);
    let init = json!([{"name": "x", "image": "i"}, {"name": "y", "image": "i"}]);
    let sidecar = json!([{"name": "x", "image": "i"}, {"name": "s", "image": "i", "restartPolicy": "Always"}, {"name": "y", "image": "i"}]);
    let probed = json!([{"name": "s", "image": "i", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["true"]}}}]);
    let rows: Vec<(&str, &serde_json::Value, Option<PodSandboxState>, Vec<&str>, Vec<&'static str>, &str)> = vec![
        ("Always", &none, None, vec![], vec![], "kill-pod sandbox-0 start-m0 start-m1"),
        ("Always", &init, None, vec![], vec![], "kill-pod sandbox-0 start-i0"),
        ("Always", &none, Some(Ready), vec![], vec![], "start-m0 start-m1"),
        ("Always", &none, Some(Ready), vec!["a:run", "b:run"], vec![], ""),
        ("Always", &none, Some(Ready), vec!["a:run", "b:0"], vec![], "start-m1"),
        ("OnFailure", &none, Some(Ready), vec!["a:1", "b:0"], vec![], "start-m0"),
        ("OnFailure", &none, Some(Ready), vec!["a:0", "b:0"], vec![], "kill-pod"),
        ("Never", &none, Some(Ready), vec!["a:1", "b:run"], vec![], ""),
        ("Never", &none, Some(Ready), vec!["a:1", "b:0"], vec![], "kill-pod"),
        ("Always", &none, Some(NotReady), vec!["a:1", "b:1"], vec![], "kill-pod sandbox-4 start-m0 start-m1"),
        ("OnFailure", &none, Some(NotReady), vec!["a:1", "b:0"], vec![], "kill-pod sandbox-4 start-m0"),
        ("OnFailure", &none, Some(NotReady), vec!["a:0", "b:0"], vec![], "kill-pod"),
        ("Never", &none, Some(NotReady), vec!["a:1"], vec![], "kill-pod"),
        ("Always", &none, Some(Ready), vec!["a:run", "b:run"], vec!["a-dead"], "kill-a start-m0"),
        ("Never", &none, Some(Ready), vec!["a:run", "b:run"], vec!["a-dead"], "kill-a"),
        ("Always", &none, Some(Ready), vec!["a:unknown", "b:run"], vec![], "kill-a start-m0"),
        ("Always", &init, Some(Ready), vec![], vec![], "start-i0"),
        ("Always", &init, Some(Ready), vec!["x:run"], vec![], ""),
        ("Always", &init, Some(Ready), vec!["x:0"], vec![], "start-i1"),
        ("Always", &init, Some(Ready), vec!["x:1"], vec![], "start-i0"),
        ("Never", &init, Some(Ready), vec!["x:1"], vec![], "kill-pod"),
        ("Always", &init, Some(Ready), vec!["x:0", "y:0"], vec![], "start-m0 start-m1"),
        ("Always", &init, Some(Ready), vec!["y:0", "a:run"], vec![], "start-m1"),
        ("Always", &sidecar, Some(Ready), vec!["x:0"], vec![], "start-i1"),
        ("Always", &sidecar, Some(Ready), vec!["x:0", "s:run"], vec![], "start-i2"),
        ("Always", &sidecar, Some(Ready), vec!["x:0", "s:run", "y:0"], vec![], "start-m0 start-m1"),
        ("Always", &sidecar, Some(Ready), vec!["x:0", "s:1", "y:0", "a:run", "b:run"], vec![], "start-i1"),
        ("Never", &sidecar, Some(Ready), vec!["x:0", "s:run", "y:0", "a:0", "b:0"], vec![], "kill-pod"),
        ("Always", &probed, Some(Ready), vec!["s:run"], vec![], ""),
        ("Always", &probed, Some(Ready), vec!["s:run"], vec!["s-started"], "start-m0 start-m1"),
    ];
    for (policy, init, sandbox, containers, probes, expected) in rows {
        let plan = plan(&pod(policy, init.clone()), &observed(sandbox, &containers), &Probes(probes.clone()));
        assert_eq!(show(&plan), expected, "{policy} {sandbox:?} {containers:?} {probes:?}");
    }
}
