//! What PostFilter is given and gives.

use std::sync::Arc;

use crate::extender::Extender;
use crate::fit_error::Verdicts;
use crate::framework::{CycleState, Status};
use crate::nominator::Nominator;
use crate::pod_info::PodInfo;
use crate::profile::Profile;
use crate::snapshot::Snapshot;

/// What PostFilter is given.
#[derive(Clone, Copy)]
pub struct PostFilterArgs<'a> {
    /// The plugin's place in the profile.
    pub plugin: usize,
    /// What PreFilter prepared.
    pub state: &'a CycleState,
    /// The pod that fits nowhere.
    pub pod: &'a Arc<PodInfo>,
    /// Why it does not, node by node.
    pub verdicts: &'a Verdicts,
    /// The cluster.
    pub snapshot: &'a Snapshot,
    pub(crate) profile: &'a Profile,
    pub(crate) nominator: &'a Nominator,
    pub(crate) extenders: &'a [Arc<Extender>],
}

/// What PostFilter gives.
pub struct PostFilter {
    /// The node that the pod is nominated for from now on: `Some("")` takes a nomination away, none leaves it as it is.
    pub nominate: Option<String>,
    /// Why there is nothing to be done; none when something was done.
    pub status: Option<Status>,
}

impl PostFilter {
    /// Leaves the nomination as it is.
    pub fn keep(status: Status) -> Self {
        Self { nominate: None, status: Some(status) }
    }
}
