//! The extension points, upstream's names and order.
//!
//! A plugin is one type that names the [`Points`] it serves; the framework calls no other. PreFilter, Filter, PreScore,
//! Score, NormalizeScore, Reserve and Permit run inside the scheduling cycle on a snapshot and must not wait; PostFilter
//! may ask extenders; PreBind, Bind and PostBind run in the binding task.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use client::Client;
use rt::HashSet;

use crate::events::ClusterEvent;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::post_filter::{PostFilter, PostFilterArgs};
use crate::snapshot::Snapshot;

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
}

/// Why a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How it ended.
    pub code: Code,
    /// Reasons in upstream's words; they appear in events and conditions.
    pub reasons: Vec<Cow<'static, str>>,
}

impl Status {
    /// The pod does not fit now.
    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::Unschedulable, reasons: vec![reason.into()] }
    }

    /// The pod does not fit, and evicting others would not change that.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::UnschedulableAndUnresolvable, reasons: vec![reason.into()] }
    }

    /// The plugin failed.
    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::Error, reasons: vec![reason.into()] }
    }

    /// The reasons as one text.
    pub fn message(&self) -> String {
        self.reasons.join(", ")
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
    /// The order of the queue. There is one order, by priority and age; the plugin only gives it its name.
    pub const QUEUE_SORT: Self = Self(1 << 11);
    /// How many there are.
    pub const COUNT: usize = 12;

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All but the other's.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the others are in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The number of a single point.
    pub(crate) const fn number(self) -> usize {
        self.0.trailing_zeros() as usize
    }
}

/// A value that a plugin keeps for one cycle. It is cloned when preemption tries what would be.
pub trait Slot: Any + Send + Sync {
    /// A copy.
    fn copy(&self) -> Box<dyn Slot>;
    /// The value.
    fn any(&self) -> &dyn Any;
    /// The value.
    fn any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Any + Clone + Send + Sync> Slot for T {
    fn copy(&self) -> Box<dyn Slot> {
        Box::new(self.clone())
    }

    fn any(&self) -> &dyn Any {
        self
    }

    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// What plugins keep for one pod's cycle, by the plugin's place in the profile: one value for filtering, one for scoring.
#[derive(Default)]
pub struct CycleState {
    slots: Vec<Option<Box<dyn Slot>>>,
    /// Plugins whose Filter has nothing to say, one bit each.
    pub(crate) skipped: u64,
}

impl CycleState {
    pub(crate) fn new(plugins: usize) -> Self {
        Self { slots: std::iter::repeat_with(|| None).take(plugins * 2).collect(), skipped: 0 }
    }

    fn set<T: Slot>(&mut self, at: usize, value: T) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some(Box::new(value));
        }
    }

    fn look<T: 'static>(&self, at: usize) -> Option<&T> {
        // Not `slot.any()`: the box is a slot as well.
        self.slots.get(at)?.as_deref()?.any().downcast_ref()
    }

    /// Keeps a value for a plugin's Filter, Reserve and PreBind.
    pub fn put<T: Slot>(&mut self, plugin: usize, value: T) {
        self.set(plugin * 2, value);
    }

    /// What a plugin kept.
    pub fn get<T: 'static>(&self, plugin: usize) -> Option<&T> {
        self.look(plugin * 2)
    }

    /// What a plugin kept, to be changed.
    pub fn get_mut<T: 'static>(&mut self, plugin: usize) -> Option<&mut T> {
        self.slots.get_mut(plugin * 2)?.as_deref_mut()?.any_mut().downcast_mut()
    }

    /// Keeps a value for a plugin's Score.
    pub fn put_score<T: Slot>(&mut self, plugin: usize, value: T) {
        self.set(plugin * 2 + 1, value);
    }

    /// What a plugin's PreScore kept.
    pub fn get_score<T: 'static>(&self, plugin: usize) -> Option<&T> {
        self.look(plugin * 2 + 1)
    }
}

impl Clone for CycleState {
    fn clone(&self) -> Self {
        let slots = self.slots.iter().map(|slot| slot.as_deref().map(Slot::copy)).collect();
        Self { slots, skipped: self.skipped }
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

/// What Permit decided.
pub enum Permit {
    /// Go on.
    Allow,
    /// Hold the binding until somebody allows it, at most so long.
    Wait(Duration),
    /// Do not bind.
    Reject(Status),
}

/// What a plugin is told of the cycle: its slot in the state, and the nodes.
#[derive(Clone, Copy)]
pub struct CycleView<'a> {
    /// The plugin's place in the profile.
    pub plugin: usize,
    /// The cluster as it was when the cycle began.
    pub snapshot: &'a Snapshot,
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
    fn wakes_on(&self) -> u64 {
        0
    }

    /// Whether this event may make the pod fit; asked only for events of [`Plugin::wakes_on`].
    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        true
    }

    /// Whether the pod may enter the queue; `None` is yes.
    fn pre_enqueue(&self, pod: &PodInfo) -> Option<Status> {
        None
    }

    /// Prepares filtering.
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, view: CycleView<'_>) -> PreFilter {
        PreFilter::All
    }

    /// Changes what PreFilter prepared as if a pod were on a node.
    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, added: &PodInfo, node: &NodeInfo, view: CycleView<'_>) {}

    /// Changes what PreFilter prepared as if a pod were not on a node.
    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, gone: &PodInfo, node: &NodeInfo, view: CycleView<'_>) {}

    /// Whether the node takes the pod; `None` is yes.
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        None
    }

    /// What can be done so that the pod fits later.
    async fn post_filter(&self, args: PostFilterArgs<'_>) -> PostFilter {
        PostFilter::keep(Status::unschedulable(""))
    }

    /// Prepares scoring; `false` leaves this plugin's Score out. `feasible` are places in the snapshot.
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, feasible: &[usize], view: CycleView<'_>) -> bool {
        true
    }

    /// The node's score, before normalization.
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        0
    }

    /// Brings scores of the feasible nodes into 0 to [`MAX_NODE_SCORE`].
    fn normalize(&self, state: &CycleState, scores: &mut [i64], feasible: &[usize], view: CycleView<'_>) {}

    /// Takes what the pod needs on its node, in memory; `None` is success.
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        None
    }

    /// Undoes [`Plugin::reserve`]; may be called without it.
    fn unreserve(&self, state: &CycleState, pod: &PodInfo, node: &str, plugin: usize) {}

    /// Whether the binding may begin.
    fn permit(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Permit {
        Permit::Allow
    }

    /// Whether [`Plugin::pre_bind`] will wait for others.
    fn waits_before_binding(&self, state: &CycleState, plugin: usize) -> bool {
        false
    }

    /// Prepares the binding; `None` is success. `plugin` is the place in the profile.
    async fn pre_bind(&self, state: &CycleState, pod: &PodInfo, node: &str, plugin: usize) -> Option<Status> {
        None
    }

    /// Binds the pod; `None` is success.
    async fn bind(&self, client: &Client, pod: &PodInfo, node: &str) -> Option<Status> {
        None
    }

    /// The pod is bound.
    fn post_bind(&self, pod: &PodInfo, node: &str) {}
}

/// A plugin and the weight of its score.
#[derive(Clone)]
pub struct Weighted {
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// The factor of its score.
    pub weight: i64,
}

/// Scales scores so that the highest becomes [`MAX_NODE_SCORE`]; `reverse` turns them round.
pub(crate) fn default_normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most == 0 { 0 } else { *score * MAX_NODE_SCORE / most };
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}
