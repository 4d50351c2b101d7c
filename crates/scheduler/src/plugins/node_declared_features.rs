//! NodeDeclaredFeatures: a pod that needs a feature of the kubelet goes to nodes that declare it.

use api::k8s::core::v1::{Container, Node, PodSpec};

use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

pub(crate) struct NodeDeclaredFeatures;

fn restarts_all(container: &Container) -> bool {
    container.restart_policy_rules.iter().flatten().any(|rule| rule.action == "RestartAllContainers")
}

/// The features that a pod needs; those of changes of a running pod are none of scheduling.
fn needed(spec: &PodSpec) -> Vec<&'static str> {
    let mut all = Vec::new();
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if containers.any(restarts_all) {
        all.push("RestartAllContainersOnContainerExits");
    }
    if spec.host_network == Some(true) && spec.host_users == Some(false) {
        all.push("UserNamespacesHostNetworkSupport");
    }
    all
}

fn of(pod: &PodInfo) -> Vec<&'static str> {
    pod.pod.spec.as_ref().map(needed).unwrap_or_default()
}

fn declared(node: &Node) -> Option<&Vec<String>> {
    node.status.as_ref()?.declared_features.as_ref()
}

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn wakes_on(&self) -> u64 {
        kind::NODE_ADD | kind::NODE_FEATURES
    }

    fn hint(&self, _: &PodInfo, event: &ClusterEvent) -> bool {
        let Subject::Node { old: Some(old), new: Some(new) } = &event.subject else { return true };
        declared(old) != declared(new)
    }

    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: CycleView<'_>) -> PreFilter {
        if of(pod).is_empty() { PreFilter::Skip } else { PreFilter::All }
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: CycleView<'_>) -> Option<Status> {
        let has = |feature: &str| declared(&node.node).is_some_and(|all| all.iter().any(|f| f == feature));
        let all = of(pod).into_iter().all(has);
        (!all).then(|| Status::unresolvable("node(s) didn't match Pod's required features"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn features_of_pods() {
        let rule = json!({"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}});
        for (spec, want) in [
            (json!({"containers": [{"name": "c"}]}), vec![]),
            (
                json!({"containers": [], "hostNetwork": true, "hostUsers": false}),
                vec!["UserNamespacesHostNetworkSupport"],
            ),
            (
                json!({"containers": [{"name": "c", "restartPolicyRules": [rule]}]}),
                vec!["RestartAllContainersOnContainerExits"],
            ),
        ] {
            assert_eq!(needed(&serde_json::from_value(spec).unwrap()), want);
        }
    }
}
