//! One decision: filter, score, choose; and when no node is left, what can be done about it.

use std::sync::Arc;

use crate::extender::Extender;
use crate::fit_error::{Failure, FitError, Verdicts};
use crate::framework::{Code, CycleState, Points, Status};
use crate::nominator::Nominator;
use crate::pod_info::PodInfo;
use crate::post_filter::PostFilterArgs;
use crate::profile::{Prepared, Profile, Stopped, listed};
use crate::snapshot::Snapshot;

/// Fewer feasible nodes than this are never cut.
const MIN_FEASIBLE: usize = 100;
/// The bit of extenders among rejecting plugins; any event may help against them.
pub(crate) const BY_EXTENDER: u64 = 1 << 63;

/// How many feasible nodes are enough (upstream's `numFeasibleNodesToFind`).
pub(crate) fn enough(nodes: usize, percentage: Option<i32>) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes;
    }
    let percent = match percentage.and_then(|p| usize::try_from(p).ok()).filter(|p| *p > 0) {
        Some(percent) => percent,
        None => 50usize.saturating_sub(nodes / 125).max(5),
    };
    if percent >= 100 {
        return nodes;
    }
    (nodes * percent / 100).max(MIN_FEASIBLE)
}

/// A node was found.
pub(crate) struct Decision {
    /// Its place in the snapshot.
    pub(crate) place: usize,
    pub(crate) state: CycleState,
}

/// No node was found.
pub(crate) struct Undecided {
    pub(crate) failure: Failure,
    /// See [`crate::post_filter::PostFilter::nominate`].
    pub(crate) nominate: Option<String>,
}

impl Undecided {
    fn cleared(failure: Failure) -> Self {
        Self { failure, nominate: Some(String::new()) }
    }
}

/// The cluster as decisions see it, and where the next one starts to look.
pub(crate) struct Engine {
    pub(crate) snapshot: Snapshot,
    pub(crate) nominator: Arc<Nominator>,
    pub(crate) extenders: Vec<Arc<Extender>>,
    /// Of the whole scheduler; a profile's own goes before it.
    pub(crate) percentage: Option<i32>,
    start: usize,
}

struct Search<'a> {
    profile: &'a Profile,
    pod: &'a PodInfo,
    verdicts: Verdicts,
    rejected_by: u64,
    /// What a failing plugin said.
    failed: Option<String>,
    /// Whether pods wait for places that others make for them.
    nominated: bool,
}

impl Engine {
    pub(crate) fn new(nominator: Arc<Nominator>, extenders: Vec<Arc<Extender>>, percentage: Option<i32>) -> Self {
        Self { snapshot: Snapshot::default(), nominator, extenders, percentage, start: 0 }
    }

    /// The node for a pod.
    ///
    /// # Errors
    /// No node takes it, or a plugin failed.
    pub(crate) async fn decide(&mut self, profile: &Profile, pod: &Arc<PodInfo>) -> Result<Decision, Undecided> {
        if self.snapshot.nodes().is_empty() {
            return Err(Undecided::cleared(Failure::NoNodes));
        }
        let nodes = self.snapshot.nodes().len();
        let (state, mut error) = match profile.pre_filter(pod, &self.snapshot) {
            Err(Stopped::Failed(message)) => return Err(Undecided::cleared(Failure::Error(message))),
            Err(Stopped::Rejected { state, by, status }) => {
                let verdicts = Verdicts::common(status.clone());
                let pre_filter = status.message();
                (state, FitError { nodes, verdicts, pre_filter, rejected_by: by, ..FitError::default() })
            }
            Ok(Prepared { state, rejected: Some((at, status)), .. }) => {
                let verdicts = Verdicts::common(status.clone());
                let pre_filter = status.message();
                (state, FitError { nodes, verdicts, pre_filter, rejected_by: 1 << at, ..FitError::default() })
            }
            Ok(prepared) => match self.choose(profile, pod, prepared).await {
                Ok(decision) => return Ok(decision),
                Err((Failure::Fit(error), state)) => (state, *error),
                Err((failure, _)) => return Err(Undecided::cleared(failure)),
            },
        };
        let nominate = self.post_filter(profile, pod, &state, &mut error).await;
        Err(Undecided { failure: Failure::Fit(Box::new(error)), nominate })
    }

    async fn choose(
        &mut self,
        profile: &Profile,
        pod: &Arc<PodInfo>,
        prepared: Prepared,
    ) -> Result<Decision, (Failure, CycleState)> {
        let mut search = Search {
            profile,
            pod,
            verdicts: Verdicts::default(),
            rejected_by: 0,
            failed: None,
            nominated: !self.nominator.is_empty(),
        };
        let found = self.find(&mut search, &prepared).await;
        let mut state = prepared.state;
        let feasible = match found {
            Ok(feasible) => feasible,
            Err(message) => return Err((Failure::Error(message), state)),
        };
        if feasible.is_empty() {
            let nodes = self.snapshot.nodes().len();
            let Search { verdicts, rejected_by, .. } = search;
            let error = FitError { nodes, verdicts, rejected_by, ..FitError::default() };
            return Err((Failure::Fit(Box::new(error)), state));
        }
        if let [place] = feasible.as_slice() {
            return Ok(Decision { place: *place, state });
        }
        let mut totals = profile.score(&mut state, pod, &feasible, &self.snapshot);
        for extender in self.extenders.iter().filter(|e| e.prioritizes() && e.is_interested(pod)) {
            extender.prioritize(pod, &feasible, &self.snapshot, &mut totals).await;
        }
        Ok(Decision { place: feasible[best(&totals)], state })
    }

    /// The nodes that take the pod; enough of them, not all.
    async fn find(&mut self, search: &mut Search<'_>, prepared: &Prepared) -> Result<Vec<usize>, String> {
        let nominated = search.pod.nominated();
        if !nominated.is_empty()
            && let Some(place) = self.snapshot.place(nominated)
        {
            let mut feasible = Vec::new();
            self.look(search, prepared, place, &mut feasible);
            let feasible = self.ask_extenders(search, feasible).await?;
            if !feasible.is_empty() {
                return Ok(feasible);
            }
        }
        let nodes = self.snapshot.nodes().len();
        let mut feasible = Vec::new();
        let mut looked = 0;
        if let Some((names, by, bits)) = &prepared.only {
            let text = format!("node(s) didn't satisfy plugin(s) {}", listed(by));
            search.verdicts.others = Some(Status::unresolvable(text));
            search.rejected_by |= bits;
            let mut places: Vec<usize> = names.iter().filter_map(|name| self.snapshot.place(name)).collect();
            places.sort_unstable();
            for place in places {
                self.look(search, prepared, place, &mut feasible);
                looked += 1;
            }
        } else {
            let wanted = enough(nodes, search.profile.percentage.or(self.percentage));
            while looked < nodes && feasible.len() < wanted {
                self.look(search, prepared, (self.start + looked) % nodes, &mut feasible);
                looked += 1;
            }
        }
        self.start = (self.start + looked) % nodes;
        if let Some(message) = search.failed.take() {
            return Err(message);
        }
        self.ask_extenders(search, feasible).await
    }

    fn look(&self, search: &mut Search<'_>, prepared: &Prepared, place: usize, feasible: &mut Vec<usize>) {
        let node = &self.snapshot.nodes()[place];
        let (profile, filters, state) = (search.profile, &prepared.filters, &prepared.state);
        let verdict = if search.nominated {
            profile.filter_with_nominated(filters, state, search.pod, node, &self.snapshot, &self.nominator)
        } else {
            profile.filter(filters, state, search.pod, node, &self.snapshot)
        };
        let Some((plugin, status)) = verdict else {
            feasible.push(place);
            return;
        };
        if status.code == Code::Error {
            let name = profile.plugins[plugin].plugin.name();
            search.failed.get_or_insert_with(|| format!("running \"{name}\" filter plugin: {}", status.message()));
        }
        search.rejected_by |= 1 << plugin;
        search.verdicts.set(place, status);
    }

    async fn ask_extenders(&self, search: &mut Search<'_>, mut feasible: Vec<usize>) -> Result<Vec<usize>, String> {
        for extender in &self.extenders {
            if feasible.is_empty() {
                break;
            }
            if !extender.filters() || !extender.is_interested(search.pod) {
                continue;
            }
            let before = feasible.len();
            match extender.filter(search.pod, &feasible, &self.snapshot).await {
                Ok((left, rejected)) => {
                    for (place, status) in rejected {
                        search.verdicts.set(place, status);
                    }
                    feasible = left;
                }
                Err(error) if extender.ignorable() => {
                    tracing::warn!(extender = extender.name(), error, "extender failed and is ignorable");
                }
                Err(error) => return Err(error),
            }
            if feasible.len() != before {
                search.rejected_by |= BY_EXTENDER;
            }
        }
        Ok(feasible)
    }

    /// Asks PostFilter; gives what becomes of the nomination.
    async fn post_filter(
        &self,
        profile: &Profile,
        pod: &Arc<PodInfo>,
        state: &CycleState,
        error: &mut FitError,
    ) -> Option<String> {
        let mut any = false;
        let (mut nominate, mut said) = (None, Vec::new());
        for (plugin, weighted) in profile.at(Points::POST_FILTER) {
            any = true;
            let args = PostFilterArgs {
                plugin,
                state,
                pod,
                verdicts: &error.verdicts,
                snapshot: &self.snapshot,
                profile,
                nominator: &self.nominator,
                extenders: &self.extenders,
            };
            let done = weighted.plugin.post_filter(args).await;
            if done.nominate.is_some() {
                nominate = done.nominate;
            }
            match done.status {
                None => {
                    said.clear();
                    break;
                }
                Some(status) => {
                    let failed = status.code == Code::Error;
                    said.push(status.message());
                    if failed {
                        break;
                    }
                }
            }
        }
        error.post_filter = said.join(", ");
        if any { nominate } else { Some(String::new()) }
    }
}

/// Of equals any one, evenly: the n-th equal takes the place with a chance of 1/n.
fn best(totals: &[i64]) -> usize {
    let (mut best, mut equals) = (0, 1u64);
    for at in 1..totals.len() {
        if totals[at] > totals[best] {
            (best, equals) = (at, 1);
        } else if totals[at] == totals[best] {
            equals += 1;
            if rt::rand::below(equals) == 0 {
                best = at;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests;
