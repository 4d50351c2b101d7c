//! The search for devices on one node: claim by claim, request by request, device by device, stepping back where it does
//! not go on. The first solution is taken; the order of pools, slices and devices is fixed, so that drivers can say by
//! their names what goes first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::Node;
use api::k8s::resource::v1::{AllocationResult, Device, DeviceSelector, DeviceTaint, DeviceToleration};
use api::k8s::resource::v1::{ResourceClaim, ResourceSlice};
use rt::HashMap;
use rt::time::Instant;

use super::capacity::{consumed, has_room};
use super::constraint::Constraint;
use super::ledger::{Nanos, Taken, device_id, nanos};
use super::pools::{Pool, Slices, device_reaches, devices};
use super::request::{Alternative, Classes, Mode, Request, read};
use super::result::{self, Chosen};
use super::selector::Selectors;

/// Most devices of one claim, upstream's number.
pub(super) const RESULTS_MAX: usize = 32;

/// What allocations of one cycle share.
pub(super) struct Allocator {
    pub(super) slices: Slices,
    pub(super) taken: Arc<Taken>,
    pub(super) classes: Classes,
    pub(super) selectors: Arc<Selectors>,
    /// How long the search on one node may take.
    pub(super) limit: Option<Duration>,
}

/// Why there is no allocation.
#[derive(Debug)]
pub(super) enum Failed {
    /// The node does not have the devices.
    Unfit(&'static str),
    /// Something is wrong, whatever the node.
    Error(String),
}

/// Why a branch of the search ended.
enum Stop {
    /// The claim would get too many devices; another alternative may need fewer.
    TooMany,
    Error(String),
}

/// A device that can be chosen.
pub(super) struct Candidate<'a> {
    pub(super) id: String,
    pub(super) pool: usize,
    pub(super) slice: &'a ResourceSlice,
    pub(super) device: &'a Device,
}

/// A claim with what it asks for.
struct Wanted<'a> {
    claim: &'a ResourceClaim,
    requests: Vec<Request<'a>>,
    /// The devices for alternatives that want all, by request and alternative.
    all: BTreeMap<(usize, usize), Vec<usize>>,
    constraints: Vec<Constraint<'a>>,
    chosen: Vec<Chosen>,
    /// The alternative of each request that was picked.
    picked: Vec<usize>,
}

struct Search<'a> {
    allocator: &'a Allocator,
    node: &'a Node,
    pools: &'a [Pool],
    candidates: &'a [Candidate<'a>],
    claims: Vec<Wanted<'a>>,
    /// Whether a candidate is selected, by claim, request, alternative and candidate.
    selected: HashMap<(usize, usize, usize, usize), bool>,
    /// The claims that each candidate is being taken for alone.
    taking: HashMap<usize, Vec<usize>>,
    /// What is being consumed of shared candidates.
    consuming: HashMap<usize, Nanos>,
    /// Counters of pools that are left, before and during the search.
    available: HashMap<usize, BTreeMap<String, Nanos>>,
    consumed: HashMap<usize, BTreeMap<String, Nanos>>,
    until: Option<Instant>,
}

/// Where the search is.
#[derive(Clone, Copy, Default)]
struct At {
    claim: usize,
    request: usize,
    /// Chosen already; none before the first.
    alternative: Option<usize>,
    device: usize,
}

fn tolerated(taint: &DeviceTaint, tolerations: Option<&Vec<DeviceToleration>>) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    tolerations.into_iter().flatten().any(|t| {
        given(&t.effect).is_none_or(|effect| effect == taint.effect)
            && given(&t.key).is_none_or(|key| key == taint.key)
            && match t.operator.as_deref() {
                None | Some("" | "Equal") => {
                    t.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
                }
                Some(operator) => operator == "Exists",
            }
    })
}

fn is_kept_away(device: &Device, alternative: &Alternative<'_>) -> bool {
    let hard = device.taints.iter().flatten().filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
    hard.into_iter().any(|taint| !tolerated(taint, alternative.tolerations))
}

fn candidates(pools: &[Pool]) -> Vec<Candidate<'_>> {
    let mut all = Vec::new();
    for (at, pool) in pools.iter().enumerate().filter(|(_, pool)| pool.is_usable()) {
        for slice in &pool.slices {
            for device in devices(slice) {
                let id = device_id(&pool.driver, &pool.name, &device.name);
                all.push(Candidate { id, pool: at, slice, device });
            }
        }
    }
    all
}

impl Allocator {
    /// Devices for claims on a node, in the order of the claims.
    ///
    /// # Errors
    /// The node has none, or the claims are wrong.
    pub(super) fn allocate(&self, node: &Node, claims: &[Arc<ResourceClaim>]) -> Result<Vec<AllocationResult>, Failed> {
        let pools = self.slices.pools(node);
        let candidates = candidates(&pools);
        let mut search = Search {
            allocator: self,
            node,
            pools: &pools,
            candidates: &candidates,
            claims: Vec::new(),
            selected: HashMap::default(),
            taking: HashMap::default(),
            consuming: HashMap::default(),
            available: HashMap::default(),
            consumed: HashMap::default(),
            until: self.limit.map(|limit| Instant::now() + limit),
        };
        for claim in claims {
            search.add(claim).map_err(Failed::Error)?;
        }
        match search.go(At::default(), 0) {
            Ok(true) => {}
            Err(Stop::Error(error)) => return Err(Failed::Error(error)),
            Ok(false) | Err(Stop::TooMany) if pools.iter().any(|pool| pool.invalid) => {
                return Err(Failed::Unfit("invalid resource pools were encountered"));
            }
            Ok(false) | Err(Stop::TooMany) => return Err(Failed::Unfit("cannot allocate all claims")),
        }
        let made = search.claims.iter().map(|w| {
            let picked = w.requests.iter().zip(&w.picked).map(|(r, at)| (r, &r.alternatives[*at]));
            result::made(w.claim, &picked.collect::<Vec<_>>(), &w.chosen, &candidates, node.name())
        });
        made.collect::<Result<_, _>>().map_err(Failed::Error)
    }
}

impl<'a> Search<'a> {
    fn add(&mut self, claim: &'a ResourceClaim) -> Result<(), String> {
        let requests = read(claim, &self.allocator.classes)?;
        let constraints = claim.spec.devices.iter().flat_map(|d| d.constraints.iter().flatten()).enumerate();
        let constraints: Result<Vec<_>, String> = constraints
            .map(|(at, constraint)| {
                let unknown = "empty constraint (unsupported constraint type?)";
                Constraint::new(constraint).ok_or_else(|| format!("claim {}, constraint #{at}: {unknown}", claim.key()))
            })
            .collect();
        let picked = vec![0; requests.len()];
        let (all, chosen) = (BTreeMap::new(), Vec::new());
        self.claims.push(Wanted { claim, requests, all, constraints: constraints?, chosen, picked });
        let place = self.claims.len() - 1;
        let mut least = 0;
        for request in 0..self.claims[place].requests.len() {
            let mut fewest = usize::MAX;
            for alternative in 0..self.claims[place].requests[request].alternatives.len() {
                fewest = fewest.min(self.prepare(place, request, alternative)?);
            }
            least += fewest;
        }
        if least > RESULTS_MAX {
            let key = claim.key();
            return Err(format!(
                "claim {key}: number of requested devices {least} exceeds the claim limit of {RESULTS_MAX}"
            ));
        }
        Ok(())
    }

    /// How many devices an alternative needs.
    fn prepare(&mut self, claim: usize, request: usize, alternative: usize) -> Result<usize, String> {
        let wanted = &self.claims[claim].requests[request].alternatives[alternative];
        let Mode::All = wanted.mode else {
            let Mode::Exactly(count) = wanted.mode else { return Ok(0) };
            return Ok(count);
        };
        if let Some(pool) = self.pools.iter().find(|pool| !pool.is_usable()) {
            let state = if pool.incomplete { "being updated" } else { "invalid" };
            let (key, full) = (self.claims[claim].claim.key(), &wanted.full);
            return Err(format!(
                "claim {key}, request {full}: asks for all devices, but resource pool {}/{} is currently {state}",
                pool.driver, pool.name
            ));
        }
        let mut all = Vec::new();
        for at in 0..self.candidates.len() {
            if self.is_selected((claim, request, alternative, at))?
                && self.fits_capacity(claim, request, alternative, at)
            {
                all.push(at);
            }
        }
        let count = all.len();
        self.claims[claim].all.insert((request, alternative), all);
        Ok(count)
    }

    fn is_selected(&mut self, key: (usize, usize, usize, usize)) -> Result<bool, String> {
        if let Some(known) = self.selected.get(&key) {
            return Ok(*known);
        }
        let (claim, request, alternative, at) = key;
        let (wanted, candidate) = (&self.claims[claim], &self.candidates[at]);
        let asked = &wanted.requests[request].alternatives[alternative];
        let here =
            candidate.slice.spec.per_device_node_selection != Some(true) || device_reaches(candidate.device, self.node);
        let of_class = asked.class.spec.selectors.as_deref().unwrap_or_default();
        let answer = here
            && self.all_match(of_class, candidate, || format!("class {}", asked.class.name()))?
            && self.all_match(asked.selectors, candidate, || format!("claim {}", wanted.claim.key()))?;
        self.selected.insert(key, answer);
        Ok(answer)
    }

    fn all_match(
        &self,
        selectors: &[DeviceSelector],
        candidate: &Candidate<'_>,
        whose: impl Fn() -> String,
    ) -> Result<bool, String> {
        for (at, selector) in selectors.iter().enumerate() {
            let expression = selector.cel.as_ref().map(|c| c.expression.as_str()).unwrap_or_default();
            let driver = &candidate.slice.spec.driver;
            let matches = self.allocator.selectors.matches(expression, driver, candidate.device);
            if !matches.map_err(|fault| format!("{}: selector #{at}: {fault}", whose()))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fits_capacity(&self, claim: usize, request: usize, alternative: usize, at: usize) -> bool {
        let asked = self.claims[claim].requests[request].alternatives[alternative].capacity;
        let candidate = &self.candidates[at];
        has_room(candidate.device, asked, self.allocator.taken.consumed(&candidate.id), self.consuming.get(&at))
    }

    /// Goes on from a place; whether everything was allocated.
    fn go(&mut self, at: At, start: usize) -> Result<bool, Stop> {
        if self.until.is_some_and(|until| Instant::now() > until) {
            return Err(Stop::Error(format!("node {}: timed out trying to allocate devices", self.node.name())));
        }
        let Some(wanted) = self.claims.get(at.claim) else { return Ok(true) };
        let Some(request) = wanted.requests.get(at.request) else {
            // Too many devices for a later claim may be cured by another choice for this one.
            return match self.go(At { claim: at.claim + 1, ..At::default() }, 0) {
                Err(Stop::TooMany) => Ok(false),
                other => other,
            };
        };
        let Some(alternative) = at.alternative else { return self.any_of(at, request.alternatives.len()) };
        let count = match request.alternatives[alternative].mode {
            Mode::Exactly(count) => count,
            Mode::All => wanted.all.get(&(at.request, alternative)).map_or(0, Vec::len),
        };
        let takes_all = request.alternatives[alternative].mode == Mode::All;
        if takes_all && count == 0 {
            return Ok(false);
        }
        if at.device >= count {
            return self.go(At { claim: at.claim, request: at.request + 1, ..At::default() }, 0);
        }
        if wanted.chosen.len() + count - at.device > RESULTS_MAX {
            return Err(Stop::TooMany);
        }
        if takes_all {
            let candidate = wanted.all.get(&(at.request, alternative)).map_or(0, |all| all[at.device]);
            return self.with(at, alternative, candidate, true, 0).map(|done| done == Some(true));
        }
        for candidate in start..self.candidates.len() {
            let selected = self.is_selected((at.claim, at.request, alternative, candidate)).map_err(Stop::Error)?;
            if selected && self.with(at, alternative, candidate, false, candidate + 1)? == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn any_of(&mut self, at: At, count: usize) -> Result<bool, Stop> {
        let mut too_many = true;
        for alternative in 0..count {
            match self.go(At { alternative: Some(alternative), ..at }, 0) {
                Err(Stop::TooMany) => continue,
                Ok(true) => {
                    self.claims[at.claim].picked[at.request] = alternative;
                    return Ok(true);
                }
                Ok(false) => too_many = false,
                error => return error,
            }
        }
        if too_many { Err(Stop::TooMany) } else { Ok(false) }
    }

    /// Goes on with one device chosen; none when it cannot be.
    fn with(
        &mut self,
        at: At,
        alternative: usize,
        candidate: usize,
        must: bool,
        next: usize,
    ) -> Result<Option<bool>, Stop> {
        if !self.choose(at, alternative, candidate, must).map_err(Stop::Error)? {
            return Ok(None);
        }
        let done = self.go(At { device: at.device + 1, alternative: Some(alternative), ..at }, next);
        if !matches!(done, Ok(true)) {
            self.undo(at, alternative, candidate);
        }
        done.map(Some)
    }

    fn shares(&self, candidate: usize) -> bool {
        self.candidates[candidate].device.allow_multiple_allocations == Some(true)
    }

    fn is_free(&self, at: At, candidate: usize, admin: bool) -> bool {
        let taking = self.taking.get(&candidate);
        match admin {
            true => self.shares(candidate) || taking.is_none_or(|claims| !claims.contains(&at.claim)),
            false => !self.allocator.taken.is_taken(&self.candidates[candidate].id) && taking.is_none_or(Vec::is_empty),
        }
    }

    fn choose(&mut self, at: At, alternative: usize, candidate: usize, must: bool) -> Result<bool, String> {
        let asked = &self.claims[at.claim].requests[at.request].alternatives[alternative];
        let admin = asked.admin == Some(true);
        let (one, shares) = (&self.candidates[candidate], self.shares(candidate));
        if !self.is_free(at, candidate, admin)
            || is_kept_away(one.device, asked)
            || !self.fits_capacity(at.claim, at.request, alternative, candidate)
        {
            return Ok(false);
        }
        let (asked_capacity, full) = (asked.capacity, asked.full.clone());
        let in_use = self.allocator.taken.consumed(&one.id).is_some() || self.consuming.contains_key(&candidate);
        let counts = !(shares && in_use);
        if counts && !self.take_counters(candidate) {
            return Ok(false);
        }
        let wanted = &mut self.claims[at.claim];
        let name = wanted.requests[at.request].name;
        for index in 0..wanted.constraints.len() {
            if wanted.constraints[index].add(name, &full, &one.slice.spec.driver, one.device) {
                continue;
            }
            if must {
                let (key, id) = (wanted.claim.key(), &one.id);
                return Err(format!(
                    "claim {key}, request {full}: cannot add device {id} because a claim constraint would not be satisfied"
                ));
            }
            wanted.constraints[..index].iter_mut().for_each(|c| c.remove(name, &full));
            if counts {
                self.count(candidate, -1);
            }
            return Ok(false);
        }
        let mut amounts = None;
        if shares {
            let taken = consumed(one.device, asked_capacity);
            let held = self.consuming.entry(candidate).or_default();
            for (name, amount) in &taken {
                *held.entry(name.clone()).or_default() += amount.nanos();
            }
            amounts = Some(taken);
        } else {
            self.taking.entry(candidate).or_default().push(at.claim);
        }
        self.claims[at.claim].chosen.push(Chosen {
            candidate,
            request: full,
            admin: asked_admin(admin),
            amounts,
            counts,
        });
        Ok(true)
    }

    fn undo(&mut self, at: At, alternative: usize, candidate: usize) {
        let wanted = &mut self.claims[at.claim];
        let Some(chosen) = wanted.chosen.pop() else { return };
        let request = &wanted.requests[at.request];
        let full = &request.alternatives[alternative].full;
        wanted.constraints.iter_mut().for_each(|c| c.remove(request.name, full));
        match &chosen.amounts {
            Some(amounts) => {
                if let Some(held) = self.consuming.get_mut(&candidate) {
                    for (name, amount) in amounts {
                        *held.entry(name.clone()).or_default() -= amount.nanos();
                    }
                    if held.values().all(|amount| *amount == 0) {
                        self.consuming.remove(&candidate);
                    }
                }
            }
            None => {
                self.taking.get_mut(&candidate).and_then(Vec::pop);
            }
        }
        if chosen.counts {
            self.count(candidate, -1);
        }
    }

    /// What is left of a pool's counters beside the devices that are in use.
    fn available(&mut self, at: usize) -> &BTreeMap<String, Nanos> {
        let (pools, taken) = (self.pools, &self.allocator.taken);
        self.available.entry(at).or_insert_with(|| {
            let pool = &pools[at];
            let mut left = pool.counters.clone();
            let all = pool.slices.iter().chain(&pool.others).flat_map(|s| devices(s));
            for device in all.filter(|d| taken.is_used(&device_id(&pool.driver, &pool.name, &d.name))) {
                subtract(&mut left, device);
            }
            left
        })
    }

    fn count(&mut self, candidate: usize, sign: i128) {
        let one = &self.candidates[candidate];
        let sets = self.consumed.entry(one.pool).or_default();
        for consumes in one.device.consumes_counters.iter().flatten() {
            let set = sets.entry(consumes.counter_set.clone()).or_default();
            for (name, counter) in &consumes.counters {
                *set.entry(name.clone()).or_default() += sign * nanos(&counter.value);
            }
        }
    }

    /// Takes the counters that a device consumes, if there are enough.
    fn take_counters(&mut self, candidate: usize) -> bool {
        let one = &self.candidates[candidate];
        if one.device.consumes_counters.as_ref().is_none_or(Vec::is_empty) {
            return true;
        }
        self.count(candidate, 1);
        let consumed = self.consumed.get(&one.pool).cloned().unwrap_or_default();
        let enough = self.available(one.pool).iter().all(|(set, counters)| {
            let used = consumed.get(set);
            counters.iter().all(|(name, left)| *left >= used.and_then(|used| used.get(name)).copied().unwrap_or(0))
        });
        if !enough {
            self.count(candidate, -1);
        }
        enough
    }
}

/// Only said when asked for.
fn asked_admin(admin: bool) -> Option<bool> {
    admin.then_some(true)
}

fn subtract(left: &mut BTreeMap<String, Nanos>, device: &Device) {
    for consumes in device.consumes_counters.iter().flatten() {
        let Some(set) = left.get_mut(&consumes.counter_set) else { continue };
        for (name, counter) in &consumes.counters {
            if let Some(amount) = set.get_mut(name) {
                *amount -= nanos(&counter.value);
            }
        }
    }
}
