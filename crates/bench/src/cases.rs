//! scheduler_perf's cases, by upstream's names and numbers.

use serde_json::{Value, json};

/// What happens beside the pods that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Churn {
    /// Pods that evict others, five a second.
    Preempting,
    /// Pods that fit nowhere, five a second.
    Unschedulable,
    /// A node, a pod that fits nowhere and a Service, made and deleted again every second.
    Mixed,
}

/// One case.
pub(crate) struct Case {
    /// Name of its row.
    pub(crate) name: &'static str,
    /// Names of its further rows: latency of an attempt.
    pub(crate) p50: &'static str,
    pub(crate) p99: &'static str,
    /// The row of the cycle alone.
    pub(crate) cycle: &'static str,
    pub(crate) nodes: usize,
    /// Zones that the nodes are in, one after the other.
    pub(crate) zones: &'static [&'static str],
    /// One node more that takes many pods.
    pub(crate) big_node: bool,
    pub(crate) first_pods: usize,
    pub(crate) first: fn() -> Value,
    pub(crate) pods: usize,
    pub(crate) pod: fn() -> Value,
    pub(crate) churn: Option<Churn>,
}

const BIG_NODE: &str = "scheduler-perf-node";

macro_rules! case {
    ($name:literal, $($field:ident: $value:expr),* $(,)?) => {
        Case {
            name: $name,
            p50: concat!($name, "-p50"),
            p99: concat!($name, "-p99"),
            cycle: concat!("cycle-", $name),
            $($field: $value,)*
            ..BASIC
        }
    };
}

const BASIC: Case = Case {
    name: "scheduling",
    p50: "scheduling-p50",
    p99: "scheduling-p99",
    cycle: "cycle-scheduling",
    nodes: 5000,
    zones: &[],
    big_node: false,
    first_pods: 1000,
    first: small,
    pods: 10_000,
    pod: small,
    churn: None,
};

/// All cases. The churn of a case is left out where the cycle is measured alone.
pub(crate) const CASES: &[Case] = &[
    BASIC,
    case!("node-affinity", zones: &["zone1"], first_pods: 5000, first: in_zones, pods: 10_000, pod: in_zones),
    case!("pod-affinity", zones: &["zone1"], first_pods: 5000, first: near, pods: 5000, pod: near),
    case!("preferred-pod-affinity", first_pods: 5000, first: rather_near, pods: 5000, pod: rather_near),
    case!("pod-anti-affinity", first_pods: 1000, first: apart, pods: 2000, pod: apart),
    case!("topology-spreading", zones: &["moon-1", "moon-2", "moon-3"], first_pods: 5000, pods: 5000, pod: spread),
    case!("preemption", first_pods: 20_000, first: large, pods: 5000, churn: Some(Churn::Preempting)),
    case!("unschedulable", first_pods: 100, churn: Some(Churn::Unschedulable)),
    case!("mixed-churn", first_pods: 0, churn: Some(Churn::Mixed)),
    case!("daemonset", nodes: 15_000, big_node: true, first_pods: 0, pods: 30_000, pod: daemon),
];

impl Case {
    /// The same with fewer of everything.
    pub(crate) fn scaled(&self, scale: f64) -> Self {
        let part = |count: usize| match count {
            0 => 0,
            count => ((count as f64 * scale).round() as usize).max(1),
        };
        Self { nodes: part(self.nodes), first_pods: part(self.first_pods), pods: part(self.pods), ..*self }
    }

    /// A node; the big one comes after the last.
    pub(crate) fn node(&self, number: usize) -> Value {
        let big = self.big_node && number == self.nodes;
        let name = if big { BIG_NODE.to_owned() } else { format!("perf-{number:05}") };
        let pods = if big { "90000" } else { "110" };
        let resources = json!({"cpu": "4", "memory": "32Gi", "pods": pods});
        let mut labels = json!({"kubernetes.io/hostname": name});
        if let Some(zone) = self.zones.get(number % self.zones.len().max(1)) {
            labels["topology.kubernetes.io/zone"] = (*zone).into();
        }
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "status": {
                "capacity": resources, "allocatable": resources,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Hollow", "message": "an object only"}],
            },
        })
    }

    /// How many nodes there are.
    pub(crate) fn all_nodes(&self) -> usize {
        self.nodes + usize::from(self.big_node)
    }
}

/// A pod of a form, with a name.
pub(crate) fn named(form: fn() -> Value, name: &str) -> Value {
    let mut pod = form();
    pod["metadata"]["name"] = name.into();
    pod
}

fn pod(cpu: &str, labels: &Value, more: &Value) -> Value {
    let resources = json!({"cpu": cpu, "memory": "500Mi"});
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"labels": labels},
        "spec": {
            // New nodes are tainted until a controller has seen that they are ready, and again when they are silent.
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists"},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists"},
            ],
            "containers": [{
                "name": "pause", "image": "registry.k8s.io/pause:3.10.2", "ports": [{"containerPort": 80}],
                "resources": {"requests": resources, "limits": resources},
            }],
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn small() -> Value {
    pod("100m", &json!({}), &json!({}))
}

fn large() -> Value {
    pod("900m", &json!({}), &json!({"terminationGracePeriodSeconds": 0}))
}

fn in_zones() -> Value {
    let zones = json!([{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone1", "zone2"]}]);
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": zones}]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
    pod("100m", &json!({}), &json!({"affinity": affinity}))
}

fn term(color: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key, "namespaces": ["sched-1", "sched-0"]})
}

fn near() -> Value {
    let terms = json!([term("blue", "topology.kubernetes.io/zone")]);
    let affinity = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
    pod("100m", &json!({"color": "blue"}), &json!({"affinity": affinity}))
}

fn rather_near() -> Value {
    let terms = json!([{"podAffinityTerm": term("red", "kubernetes.io/hostname"), "weight": 1}]);
    let affinity = json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}});
    pod("100m", &json!({"color": "red"}), &json!({"affinity": affinity}))
}

fn apart() -> Value {
    let terms = json!([term("green", "kubernetes.io/hostname")]);
    let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
    pod("100m", &json!({"color": "green"}), &json!({"affinity": affinity}))
}

fn spread() -> Value {
    let constraints = json!([{
        "maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"color": "blue"}},
    }]);
    pod("100m", &json!({"color": "blue"}), &json!({"topologySpreadConstraints": constraints}))
}

fn daemon() -> Value {
    let fields = json!([{"key": "metadata.name", "operator": "In", "values": [BIG_NODE]}]);
    let terms = json!({"nodeSelectorTerms": [{"matchFields": fields}]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
    let mut pod = pod("0", &json!({}), &json!({"affinity": affinity}));
    pod["spec"]["containers"][0]["resources"] = json!({});
    pod
}

/// A pod that fits only when others go.
pub(crate) fn preempting() -> Value {
    pod("3", &json!({}), &json!({"priorityClassName": "bench-high", "terminationGracePeriodSeconds": 0}))
}

/// A pod that fits nowhere.
pub(crate) fn huge() -> Value {
    pod("9", &json!({}), &json!({"priorityClassName": "bench-high"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_pods_and_nodes() {
        for case in CASES {
            for form in [case.first, case.pod, preempting, huge] {
                let pod: api::k8s::core::v1::Pod = serde_json::from_value(named(form, "x")).unwrap();
                assert_eq!(pod.spec.unwrap().containers.len(), 1);
            }
            let node: api::k8s::core::v1::Node = serde_json::from_value(case.node(case.nodes)).unwrap();
            assert_eq!(node.metadata.name.as_deref() == Some(BIG_NODE), case.big_node);
        }
        let small = CASES[0].scaled(0.01);
        assert_eq!((small.nodes, small.first_pods, small.pods), (50, 10, 100));
    }
}
