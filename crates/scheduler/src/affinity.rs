//! Terms of affinity between pods, compiled once per pod.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use meta::selector::LabelSelector;

use crate::labels::selector_of;

/// One term: which pods, and within which part of the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    namespaces: BTreeSet<String>,
    namespace_selector: LabelSelector,
    selector: LabelSelector,
    pub(crate) topology_key: Arc<str>,
}

type Labels = std::collections::BTreeMap<String, String>;

impl Term {
    fn new(pod: &Pod, term: &PodAffinityTerm) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(pod.namespace().to_owned());
        }
        Self {
            namespaces,
            namespace_selector: selector_of(term.namespace_selector.as_ref()),
            selector: selector_of(term.label_selector.as_ref()),
            topology_key: term.topology_key.as_str().into(),
        }
    }

    /// Whether a pod, whose namespace has these labels, is meant.
    pub(crate) fn matches(&self, pod: &Pod, namespace_labels: Option<&Labels>) -> bool {
        let label = |key: &str| namespace_labels.and_then(|labels| labels.get(key)).map(String::as_str);
        let here = self.namespaces.contains(pod.namespace()) || self.namespace_selector.matches_with(label);
        here && self.selector.matches_map(pod.labels())
    }

    /// Names the namespaces that the term selects, so that it can be matched without their labels.
    pub(crate) fn resolve(&mut self, namespaces: impl Iterator<Item = String>) {
        self.namespaces.extend(namespaces);
        self.namespace_selector = LabelSelector::nothing();
    }

    /// Whether a namespace with these labels is selected by the selector.
    pub(crate) fn selects_namespace(&self, labels: &Labels) -> bool {
        self.namespace_selector.matches_map(labels)
    }

    /// Whether the labels of namespaces must be known to match the term: it selects some of them.
    pub(crate) fn needs_namespaces(&self) -> bool {
        !self.namespace_selector.nothing && !self.namespace_selector.is_everything()
    }
}

/// A term and its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weighted {
    pub(crate) term: Term,
    pub(crate) weight: i64,
}

/// All that a pod says about other pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub(crate) required: Vec<Term>,
    pub(crate) required_anti: Vec<Term>,
    pub(crate) preferred: Vec<Weighted>,
    pub(crate) preferred_anti: Vec<Weighted>,
}

impl Affinity {
    /// What a pod says; none when it says nothing.
    pub(crate) fn of(pod: &Pod) -> Option<Box<Self>> {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?;
        let terms = |list: Option<&Vec<PodAffinityTerm>>| -> Vec<Term> {
            list.into_iter().flatten().map(|term| Term::new(pod, term)).collect()
        };
        let weighted = |list: Option<&Vec<WeightedPodAffinityTerm>>| -> Vec<Weighted> {
            let weigh = |w: &WeightedPodAffinityTerm| Weighted {
                term: Term::new(pod, &w.pod_affinity_term),
                weight: i64::from(w.weight),
            };
            list.into_iter().flatten().map(weigh).collect()
        };
        let (to, away) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let all = Self {
            required: terms(to.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            required_anti: terms(away.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            preferred: weighted(to.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())),
            preferred_anti: weighted(
                away.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
        };
        (all != Self::default()).then(|| Box::new(all))
    }
}

/// Whether a pod is meant by all of the terms, of which there are some.
pub(crate) fn matches_all(terms: &[Term], pod: &Pod) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(pod, None))
}
