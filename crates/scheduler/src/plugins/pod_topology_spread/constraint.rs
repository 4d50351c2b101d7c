//! One constraint, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, TopologySpreadConstraint};
use component_helpers::tolerations::untolerated;
use meta::selector::{LabelSelector, Operator, Requirement};

use crate::labels::selector_of;
use crate::node_info::{NodeInfo, taints};
use crate::pod_info::PodInfo;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Constraint {
    pub(super) max_skew: i32,
    pub(super) key: Arc<str>,
    pub(super) selector: LabelSelector,
    pub(super) min_domains: i32,
    honors_affinity: bool,
    pub(super) honors_taints: bool,
}

impl Constraint {
    /// Whether a node counts for a pod.
    pub(super) fn counts(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        if self.honors_affinity && !pod.required.is_empty() && !pod.required.matches(&node.node) {
            return false;
        }
        !self.honors_taints
            || !node.hard_taints
            || untolerated(taints(&node.node), pod.tolerations(), &["NoSchedule", "NoExecute"]).is_none()
    }
}

/// The constraints of a kind.
pub(super) fn compile(
    constraints: &[TopologySpreadConstraint],
    labels: &BTreeMap<String, String>,
    action: &str,
) -> Vec<Constraint> {
    let one = |c: &TopologySpreadConstraint| {
        let mut selector = selector_of(c.label_selector.as_ref());
        for key in c.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                let values = vec![value.clone()];
                selector.requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
            }
        }
        Constraint {
            max_skew: c.max_skew,
            key: c.topology_key.as_str().into(),
            selector,
            min_domains: c.min_domains.unwrap_or(1),
            honors_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: c.node_taints_policy.as_deref() == Some("Honor"),
        }
    };
    constraints.iter().filter(|c| c.when_unsatisfiable == action).map(one).collect()
}

/// Whether a node is in every topology.
pub(super) fn have_keys(node: &Node, constraints: &[Constraint]) -> bool {
    constraints.iter().all(|c| node.label(&c.key).is_some())
}
