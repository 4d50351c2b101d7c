//! The extension points, upstream's names and order.
//!
//! A plugin is one type that names the [`Points`] it serves; the framework calls no other. PreFilter, Filter,
//! PreScore, Score, NormalizeScore, Reserve and Permit run inside the scheduling cycle and must not wait; PreBind, Bind
//! and PostBind run in the binding task.

use std::any::Any;

use async_trait::async_trait;
use client::Client;
use rt::HashSet;

use crate::events::ClusterEvent;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// Highest score of a plugin after normalization.
pub const MAX_NODE_SCORE: i64 = 100;

/// How a plugin's step ended when it did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The plugin itself failed.
    Error,
    /// The pod does not fit; evicting other pods may help.
    Unschedulable,
    /// The pod does not fit whatever is evicted.
    UnschedulableAndUnresolvable,
    /// The pod must wait until something lets it in.
    Wait,
}

/// Why a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How it ended.
    pub code: Code,
    /// Reasons in upstream's words; they appear in events and conditions.
    pub reasons: Vec<String>,
}

impl Status {
    /// The pod does not fit now.
    pub fn unschedulable(reason: impl Into<String>) -> Self {
        Self { code: Code::Unschedulable, reasons: vec![reason.into()] }
    }

    /// The pod does not fit, and evicting others would not change that.
    pub fn unresolvable(reason: impl Into<String>) -> Self {
        Self { code: Code::UnschedulableAndUnresolvable, reasons: vec![reason.into()] }
    }

    /// The plugin failed.
    pub fn error(reason: impl Into<String>) -> Self {
        Self { code: Code::Error, reasons: vec![reason.into()] }
    }
}

/// The extension points that a plugin serves, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Points(pub u16);

impl Points {
    /// Before a pod enters the queue.
    pub const PRE_ENQUEUE: Self = Self(1);
    /// Once per pod, before filtering.
    pub const PRE_FILTER: Self = Self(1 << 1);
    /// Once per node.
    pub const FILTER: Self = Self(1 << 2);
    /// When no node is left.
    pub const POST_FILTER: Self = Self(1 << 3);
    /// Once per pod, before scoring.
    pub const PRE_SCORE: Self = Self(1 << 4);
    /// Once per feasible node.
    pub const SCORE: Self = Self(1 << 5);
    /// When a node is chosen.
    pub const RESERVE: Self = Self(1 << 6);
    /// Before the binding task.
    pub const PERMIT: Self = Self(1 << 7);
    /// First in the binding task.
    pub const PRE_BIND: Self = Self(1 << 8);
    /// The binding itself; the first plugin that binds ends the step.
    pub const BIND: Self = Self(1 << 9);
    /// After the binding.
    pub const POST_BIND: Self = Self(1 << 10);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of the others are in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a plugin keeps for one pod's cycle, by the plugin's place in the profile.
#[derive(Default)]
pub struct CycleState {
    slots: Vec<Option<Box<dyn Any + Send + Sync>>>,
}

impl CycleState {
    pub(crate) fn new(plugins: usize) -> Self {
        Self { slots: std::iter::repeat_with(|| None).take(plugins).collect() }
    }

    /// Keeps a value for a plugin.
    pub fn put<T: Send + Sync + 'static>(&mut self, plugin: usize, value: T) {
        if let Some(slot) = self.slots.get_mut(plugin) {
            *slot = Some(Box::new(value));
        }
    }

    /// What a plugin kept.
    pub fn get<T: 'static>(&self, plugin: usize) -> Option<&T> {
        self.slots.get(plugin)?.as_ref()?.downcast_ref()
    }
}

/// What PreFilter found.
pub enum PreFilter {
    /// All nodes are to be filtered.
    All,
    /// Only these can fit.
    Nodes(HashSet<String>),
    /// This plugin's Filter has nothing to say for this pod.
    Skip,
    /// No node can fit.
    Reject(Status),
}

/// What a plugin is told of the cycle: its slot in the state, and the nodes.
pub struct CycleView<'a> {
    /// The plugin's place in the profile.
    pub plugin: usize,
    /// All nodes.
    pub nodes: &'a [NodeInfo],
}

/// One scheduling plugin. Every step has a default that does nothing; [`Plugin::points`] says which count.
#[async_trait]
#[allow(unused_variables, reason = "defaults do nothing")]
pub trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// The steps it serves.
    fn points(&self) -> Points;

    /// The events (bits of [`crate::events::kind`]) that may make a pod fit which this plugin rejected.
    fn wakes_on(&self) -> u32 {
        0
    }

    /// Whether this event may make the pod fit; asked only for events of [`Plugin::wakes_on`].
    fn hint(&self, pod: &PodInfo, event: &ClusterEvent, node: Option<&NodeInfo>) -> bool {
        true
    }

    /// Whether the pod may enter the queue; `None` is yes.
    fn pre_enqueue(&self, pod: &PodInfo) -> Option<Status> {
        None
    }

    /// Prepares filtering.
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, view: &CycleView<'_>) -> PreFilter {
        PreFilter::All
    }

    /// Whether the node takes the pod; `None` is yes.
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, view: &CycleView<'_>) -> Option<Status> {
        None
    }

    /// Prepares scoring; `false` leaves this plugin's Score out.
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, view: &CycleView<'_>) -> bool {
        true
    }

    /// The node's score, before normalization.
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, view: &CycleView<'_>) -> i64 {
        0
    }

    /// Brings scores into 0 to [`MAX_NODE_SCORE`].
    fn normalize(&self, scores: &mut [i64]) {}

    /// Binds the pod; `None` is success.
    async fn bind(&self, client: &Client, pod: &PodInfo, node: &str) -> Option<Status> {
        None
    }
}

/// Scales scores so that the highest becomes [`MAX_NODE_SCORE`]; `reverse` turns them round.
pub(crate) fn default_normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most == 0 { 0 } else { *score * MAX_NODE_SCORE / most };
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}
