//! Which nodes a DaemonSet's pods belong on, and which of them are there.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::DaemonSet;
use api::k8s::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Taint, Toleration,
};
use component_helpers::node_affinity::Required;
use component_helpers::tolerations::untolerated;
use rt::HashMap;
use rt::time::Timestamp;

use super::spec;
use crate::pods;
use crate::workload::history::REVISION_LABEL;

const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

pub(super) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

/// Adds the tolerations that every daemon pod has.
fn tolerate(spec: &mut PodSpec) {
    let mut wanted = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        wanted.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in wanted {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// The template with everything that its pods get.
pub(super) fn template(set: &DaemonSet, hash: &str) -> PodTemplateSpec {
    let mut template = spec(set).template.clone();
    tolerate(template.spec.get_or_insert_default());
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    if let Some(generation) = set.annotation(GENERATION_ANNOTATION) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_owned());
    }
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    template
}

/// Whether a pod is of the current template.
pub(super) fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let generation = set.annotation(GENERATION_ANNOTATION);
    pod.label(REVISION_LABEL) == Some(hash) || (generation.is_some() && pod.label(GENERATION_LABEL) == generation)
}

/// Demands a node by name, so that the scheduler puts the pod there and nowhere else.
pub(super) fn bind(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_expressions: None,
        }],
    });
}

/// Whether a pod is to be started on a node, and whether one that runs there may stay.
pub(super) fn should_run(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let mut pod_spec = spec(set).template.spec.clone().unwrap_or_default();
    let fixed = pod_spec.node_name.as_deref().unwrap_or_default();
    if !fixed.is_empty() && fixed != node.name() {
        return (false, false);
    }
    tolerate(&mut pod_spec);
    let tolerations = pod_spec.tolerations.take().unwrap_or_default();
    let pod = Pod { spec: Some(pod_spec), ..Pod::default() };
    if !Required::of(&pod).matches(node) {
        return (false, false);
    }
    let clash = |effects: &[&str]| untolerated(taints(node), &tolerations, effects).is_some();
    (!clash(&["NoSchedule", "NoExecute"]), !clash(&["NoExecute"]))
}

/// The node that a pod is on or meant for.
fn target(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.as_ref().filter(|n| !n.is_empty()) {
        return Some(name.clone());
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    let field = fields.into_iter().find(|f| f.key == "metadata.name" && f.operator == "In")?;
    match field.values.as_deref() {
        Some([one]) => Some(one.clone()),
        _ => None,
    }
}

/// The nodes, and the set's pods on each.
pub(super) struct View {
    pub(super) nodes: Vec<Arc<Node>>,
    by_node: HashMap<String, Vec<Arc<Pod>>>,
}

impl View {
    pub(super) fn new(nodes: Vec<Arc<Node>>, pods: Vec<Arc<Pod>>) -> Self {
        let mut by_node: HashMap<String, Vec<Arc<Pod>>> = HashMap::default();
        for pod in pods.into_iter().filter(|p| !(pods::is_terminal(p) && p.is_deleting())) {
            if let Some(node) = target(&pod) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        let scheduled = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some();
        for pods in by_node.values_mut() {
            pods.sort_by_key(|p| {
                (!scheduled(p), p.metadata.creation_timestamp.as_ref().map(|t| t.0), p.name().to_owned())
            });
        }
        Self { nodes, by_node }
    }

    /// The pods of a node, scheduled and oldest first.
    pub(super) fn on(&self, node: &str) -> &[Arc<Pod>] {
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.by_node.values().flatten()
    }

    /// Pods that wait for a node that is gone.
    pub(super) fn stranded(&self) -> Vec<Arc<Pod>> {
        let gone = self.by_node.iter().filter(|(name, _)| !self.nodes.iter().any(|n| n.name() == **name));
        let waiting = |pod: &&Arc<Pod>| pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_none();
        gone.flat_map(|(_, pods)| pods.iter().filter(waiting).cloned()).collect()
    }

    /// When the next pod becomes available by time alone.
    pub(super) fn next_available(&self, min_ready: i32, now: Timestamp) -> Option<Duration> {
        let waits = self.all().filter_map(|p| pods::until_available(p, min_ready, now));
        waits.filter(|wait| !wait.is_zero()).min()
    }
}
