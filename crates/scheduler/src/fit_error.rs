//! Why no node was found, in upstream's words, and who said so.

use std::collections::BTreeMap;

use crate::framework::{Code, Status};

/// No verdict of its own.
const NONE: u16 = u16::MAX;

/// What filtering said of each node that does not take the pod. Nodes without a verdict of their own share one.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    /// The number of the verdict of each place in `statuses`; few verdicts are about many nodes.
    by_place: Vec<u16>,
    statuses: Vec<Status>,
    /// How many places have one.
    count: usize,
    /// The verdict on all nodes that were not looked at.
    pub(crate) others: Option<Status>,
}

impl Verdicts {
    /// Nothing was looked at; all nodes share a verdict.
    pub(crate) fn common(status: Status) -> Self {
        Self { others: Some(status), ..Self::default() }
    }

    pub(crate) fn set(&mut self, place: usize, status: Status) {
        let known = self.statuses.iter().rposition(|s| *s == status);
        let number = known.unwrap_or_else(|| {
            self.statuses.push(status);
            self.statuses.len() - 1
        });
        if self.by_place.len() <= place {
            self.by_place.resize(place + 1, NONE);
        }
        self.count += usize::from(self.by_place[place] == NONE);
        // More different verdicts than fit are told by the last one of them.
        self.by_place[place] = u16::try_from(number).unwrap_or(NONE - 1).min(NONE - 1);
    }

    fn at(&self, place: usize) -> Option<&Status> {
        self.statuses.get(usize::from(*self.by_place.get(place)?))
    }

    /// The verdict on a node; nodes that were not looked at have the common one, by default that eviction does not help.
    pub(crate) fn code(&self, place: usize) -> Code {
        match self.at(place) {
            Some(status) => status.code,
            None => self.others.as_ref().map_or(Code::UnschedulableAndUnresolvable, |s| s.code),
        }
    }

    /// The reasons counted: `1 Insufficient cpu, 2 node(s) were unschedulable.`
    fn histogram(&self, nodes: usize) -> String {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        let mut counts = vec![0usize; self.statuses.len()];
        for number in self.by_place.iter().map(|n| usize::from(*n)) {
            if let Some(count) = counts.get_mut(number) {
                *count += 1;
            }
        }
        for (status, count) in self.statuses.iter().zip(counts).filter(|(_, count)| *count > 0) {
            for reason in &status.reasons {
                *reasons.entry(reason).or_default() += count;
            }
        }
        let rest = nodes.saturating_sub(self.count);
        if rest > 0 {
            for reason in self.others.iter().flat_map(|s| &s.reasons) {
                *reasons.entry(reason).or_default() += rest;
            }
        }
        let mut texts: Vec<String> = reasons.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        texts.sort();
        texts.join(", ")
    }
}

/// No node takes the pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct FitError {
    pub(crate) nodes: usize,
    pub(crate) verdicts: Verdicts,
    /// What PreFilter said, when it rejected the pod for all nodes.
    pub(crate) pre_filter: String,
    /// What preemption said.
    pub(crate) post_filter: String,
    /// One bit per rejecting plugin by place in the profile.
    pub(crate) rejected_by: u64,
}

impl FitError {
    pub(crate) fn message(&self) -> String {
        let mut text = format!("0/{} nodes are available:", self.nodes);
        if self.pre_filter.is_empty() {
            let reasons = self.verdicts.histogram(self.nodes);
            if !reasons.is_empty() {
                text.push_str(&format!(" {reasons}."));
            }
        } else {
            text.push_str(&format!(" {}.", self.pre_filter));
        }
        if !self.post_filter.is_empty() {
            text.push_str(&format!(" {}", self.post_filter));
        }
        text
    }
}

/// Why a cycle ended without a node.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// There are no nodes.
    NoNodes,
    /// None takes the pod.
    Fit(Box<FitError>),
    /// A node was found, but not for enough others of the pod's group.
    Group(String),
    /// A plugin or an extender failed; says nothing about the pod.
    Error(String),
}

impl Failure {
    pub(crate) fn message(&self) -> String {
        match self {
            Self::NoNodes => "no nodes available to schedule pods".to_owned(),
            Self::Fit(error) => error.message(),
            Self::Group(message) | Self::Error(message) => message.clone(),
        }
    }

    /// The reason of the pod's condition.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Error(_) => "SchedulerError",
            _ => "Unschedulable",
        }
    }

    /// The plugins that rejected the pod; none means that it is tried again after its back-off.
    pub(crate) fn rejected_by(&self) -> u64 {
        match self {
            Self::NoNodes => !0,
            Self::Fit(error) => error.rejected_by,
            Self::Group(_) | Self::Error(_) => 0,
        }
    }
}
