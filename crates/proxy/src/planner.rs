//! From changes of objects to nf_tables transactions whose size follows the change.
//!
//! The planner holds what the table contains, as one [`Piece`] per Service. A change recompiles the Service and emits
//! the difference of elements, chains and sets; nothing else is walked. Whoever applies a transaction reports
//! [`Planner::failed`], and the next plan then makes the whole table anew, in one transaction as well. So the planner
//! never reads the kernel, and no periodic resync is needed.

use crate::compile::{Piece, Target, compile};
use crate::frame::{self, Map};
use crate::model::{Service, ServiceName, Settings, Slice};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};
use sys::nft::{Chain, Command, DataType, Element, Key, Set, Transaction};

/// Chains are emptied at once and deleted this much later: kernels before 6.2 notice only after a moment that no map
/// element leads to them any more.
pub const STALE_DELAY: Duration = Duration::from_secs(1);

/// What one sync does.
#[derive(Debug, Default)]
pub struct Plan {
    /// The change; empty when there is nothing to do.
    pub transaction: Option<Transaction>,
    /// Whether the whole table is made anew.
    pub full: bool,
    /// Services whose UDP flows must be looked at.
    pub udp: Vec<ServiceName>,
    /// Services that were recompiled.
    pub services: usize,
}

/// One family's planner.
#[derive(Debug)]
pub struct Planner {
    settings: Settings,
    services: BTreeMap<ServiceName, Service>,
    /// By Service, then by the slice's name.
    slices: BTreeMap<ServiceName, BTreeMap<String, Slice>>,
    slice_owner: HashMap<String, ServiceName>,
    pieces: BTreeMap<ServiceName, Piece>,
    /// Who wants which element; the first Service by name has it.
    claims: HashMap<(Map, Key), BTreeMap<ServiceName, Target>>,
    /// What the kernel has, as far as all plans were applied.
    installed: HashMap<(Map, Key), Target>,
    dirty: BTreeSet<ServiceName>,
    stale: BTreeMap<String, Instant>,
    full: bool,
}

impl Planner {
    /// Nothing known yet; the first plan is a full one.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            slice_owner: HashMap::new(),
            pieces: BTreeMap::new(),
            claims: HashMap::new(),
            installed: HashMap::new(),
            dirty: BTreeSet::new(),
            stale: BTreeMap::new(),
            full: true,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// New settings; different ones make everything anew.
    pub fn set_settings(&mut self, settings: Settings) {
        if self.settings != settings {
            self.settings = settings;
            self.full = true;
        }
    }

    /// A Service came, changed or (`None`) went.
    pub fn set_service(&mut self, name: ServiceName, service: Option<Service>) {
        let changed = match service {
            Some(service) => self.services.insert(name.clone(), service.clone()).as_ref() != Some(&service),
            None => self.services.remove(&name).is_some(),
        };
        if changed {
            self.dirty.insert(name);
        }
    }

    /// A slice, named `namespace/name`, came, changed or (`None`) went. Other families' slices are ignored.
    pub fn set_slice(&mut self, slice_name: &str, slice: Option<Slice>) {
        let slice = slice.filter(|s| s.family == self.settings.family);
        let before = self.slice_owner.get(slice_name).cloned();
        if let Some(owner) = &before
            && slice.as_ref().is_none_or(|s| s.service != *owner)
        {
            if let Some(of_owner) = self.slices.get_mut(owner) {
                of_owner.remove(slice_name);
                if of_owner.is_empty() {
                    self.slices.remove(owner);
                }
            }
            self.slice_owner.remove(slice_name);
            self.dirty.insert(owner.clone());
        }
        if let Some(slice) = slice {
            let owner = slice.service.clone();
            let old = self.slices.entry(owner.clone()).or_default().insert(slice_name.to_owned(), slice.clone());
            self.slice_owner.insert(slice_name.to_owned(), owner.clone());
            if old.as_ref() != Some(&slice) {
                self.dirty.insert(owner);
            }
        }
    }

    /// Forgets every Service and slice that is not named: after a fresh list.
    pub fn retain(&mut self, services: &BTreeSet<ServiceName>, slices: &BTreeSet<String>) {
        for gone in self.services.keys().filter(|n| !services.contains(*n)).cloned().collect::<Vec<_>>() {
            self.set_service(gone, None);
        }
        for gone in self.slice_owner.keys().filter(|n| !slices.contains(*n)).cloned().collect::<Vec<_>>() {
            self.set_slice(&gone, None);
        }
    }

    /// Whether a plan would do something.
    pub fn is_dirty(&self) -> bool {
        self.full || !self.dirty.is_empty()
    }

    /// The last plan was not applied: the kernel's state is unknown now.
    pub fn failed(&mut self) {
        self.full = true;
    }

    /// Services that are known.
    pub fn services(&self) -> &BTreeMap<ServiceName, Service> {
        &self.services
    }

    /// Slices of a Service.
    pub fn slices_of(&self, name: &ServiceName) -> impl Iterator<Item = &Slice> + Clone {
        self.slices.get(name).into_iter().flat_map(BTreeMap::values)
    }

    /// What a Service has in the table.
    pub fn piece(&self, name: &ServiceName) -> Option<&Piece> {
        self.pieces.get(name)
    }

    /// Ports whose internal, then external traffic is dropped for want of local endpoints.
    pub fn no_local(&self) -> (u32, u32) {
        self.pieces.values().fold((0, 0), |sum, p| (sum.0 + p.no_local.0, sum.1 + p.no_local.1))
    }

    /// What must change now. Times of staleness are counted from `now`.
    pub fn plan(&mut self, now: Instant) -> Plan {
        if self.full {
            return self.plan_full();
        }
        let dirty = std::mem::take(&mut self.dirty);
        let mut plan = Plan { services: dirty.len(), ..Default::default() };
        let mut t = Transaction::new(self.settings.family, frame::TABLE);
        let mut touched = BTreeSet::new();
        let mut removals = Vec::new();
        for name in dirty {
            let new = self.compile(&name);
            let old = self.pieces.remove(&name).unwrap_or_default();
            if old.affinity.iter().any(|(set, seconds)| new.affinity.get(set).is_some_and(|n| n != seconds)) {
                // A set's timeout cannot be changed, and its name stays: rare enough to make everything anew.
                return self.plan_full();
            }
            if old.udp != new.udp {
                plan.udp.push(name.clone());
            }
            self.claim(&name, &old, &new, &mut touched);
            self.diff_chains(&old, &new, &mut t, &mut removals, now);
            if new != Piece::default() {
                self.pieces.insert(name, new);
            }
        }
        self.diff_elements(touched, &mut t);
        // Only now nothing leads to the old chains and sets any more.
        removals.into_iter().for_each(|command| t.push(command));
        plan.transaction = (!t.is_empty()).then_some(t);
        plan
    }

    fn compile(&self, name: &ServiceName) -> Piece {
        match self.services.get(name) {
            Some(service) => compile(name, service, self.slices_of(name), &self.settings),
            None => Piece::default(),
        }
    }

    fn plan_full(&mut self) -> Plan {
        self.full = false;
        self.dirty.clear();
        self.stale.clear();
        self.claims.clear();
        self.installed.clear();
        self.pieces.clear();
        let mut t = frame::build(&self.settings);
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        let mut touched = BTreeSet::new();
        let mut chains = Transaction::new(self.settings.family, frame::TABLE);
        let mut plan = Plan { full: true, services: names.len(), ..Default::default() };
        for name in names {
            let piece = self.compile(&name);
            self.claim(&name, &Piece::default(), &piece, &mut touched);
            add_sets(&piece.affinity, &mut t);
            for (chain, rules) in &piece.chains {
                t.push(Command::AddChain(Chain { name: chain.clone(), base: None }));
                rules.iter().for_each(|rule| chains.rule(chain, rule.clone()));
            }
            if !piece.udp.is_empty() {
                plan.udp.push(name.clone());
            }
            self.pieces.insert(name, piece);
        }
        t.commands.append(&mut chains.commands);
        self.diff_elements(touched, &mut t);
        plan.transaction = Some(t);
        plan
    }

    fn claim(&mut self, name: &ServiceName, old: &Piece, new: &Piece, touched: &mut BTreeSet<(Map, Key)>) {
        for key in old.elements.keys().filter(|k| !new.elements.contains_key(*k)) {
            if let Some(claims) = self.claims.get_mut(key) {
                claims.remove(name);
                if claims.is_empty() {
                    self.claims.remove(key);
                }
            }
            touched.insert(key.clone());
        }
        for (key, target) in &new.elements {
            if old.elements.get(key) != Some(target) {
                self.claims.entry(key.clone()).or_default().insert(name.clone(), target.clone());
                touched.insert(key.clone());
            }
        }
    }

    /// New chains and changed rules now; what is gone as commands for the transaction's end.
    fn diff_chains(
        &mut self,
        old: &Piece,
        new: &Piece,
        t: &mut Transaction,
        removals: &mut Vec<Command>,
        now: Instant,
    ) {
        let added: BTreeMap<String, u32> =
            new.affinity.iter().filter(|(s, _)| !old.affinity.contains_key(*s)).map(|(s, n)| (s.clone(), *n)).collect();
        add_sets(&added, t);
        let changed: Vec<_> =
            new.chains.iter().filter(|(chain, rules)| old.chains.get(*chain) != Some(*rules)).collect();
        for (chain, _) in &changed {
            self.stale.remove(*chain);
            t.push(Command::AddChain(Chain { name: (*chain).clone(), base: None }));
            t.push(Command::FlushChain((*chain).clone()));
        }
        for (chain, rules) in changed {
            rules.iter().for_each(|rule| t.rule(chain, rule.clone()));
        }
        for chain in old.chains.keys().filter(|c| !new.chains.contains_key(*c)) {
            removals.push(Command::FlushChain(chain.clone()));
            self.stale.insert(chain.clone(), now);
        }
        for set in old.affinity.keys().filter(|s| !new.affinity.contains_key(*s)) {
            removals.push(Command::DeleteSet(set.clone()));
        }
    }

    fn diff_elements(&mut self, touched: BTreeSet<(Map, Key)>, t: &mut Transaction) {
        let mut delete: BTreeMap<Map, Vec<Key>> = BTreeMap::new();
        let mut add: BTreeMap<Map, Vec<Element>> = BTreeMap::new();
        for place in touched {
            let wanted = self.claims.get(&place).and_then(|claims| claims.values().next()).cloned();
            let present = self.installed.get(&place);
            if wanted.as_ref() == present {
                continue;
            }
            if present.is_some() {
                delete.entry(place.0).or_default().push(place.1.clone());
            }
            match wanted {
                Some(target) => {
                    let element = Element {
                        key: place.1.clone(),
                        verdict: target.verdict.clone(),
                        comment: target.comment.clone(),
                    };
                    add.entry(place.0).or_default().push(element);
                    self.installed.insert(place, target);
                }
                None => {
                    self.installed.remove(&place);
                }
            }
        }
        for (map, keys) in delete {
            t.push(Command::DeleteElements { set: map.name().into(), keys });
        }
        for (map, elements) in add {
            t.push(Command::AddElements { set: map.name().into(), elements });
        }
    }

    /// When the next stale chain may be deleted.
    pub fn next_stale(&self) -> Option<Instant> {
        self.stale.values().min().map(|at| *at + STALE_DELAY)
    }

    /// Deletes chains that have been stale long enough; a transaction of its own, whose failure means only that the
    /// kernel still holds one: give them back with [`Planner::keep_stale`].
    pub fn collect(&mut self, now: Instant) -> Option<Transaction> {
        let due: Vec<String> =
            self.stale.iter().filter(|(_, at)| now >= **at + STALE_DELAY).map(|(name, _)| name.clone()).collect();
        if due.is_empty() {
            return None;
        }
        let mut t = Transaction::new(self.settings.family, frame::TABLE);
        for name in due {
            self.stale.remove(&name);
            t.push(Command::DeleteChain(name));
        }
        Some(t)
    }

    /// A collection was refused: try its chains again later.
    pub fn keep_stale(&mut self, transaction: &Transaction, now: Instant) {
        for command in &transaction.commands {
            if let Command::DeleteChain(name) = command {
                self.stale.insert(name.clone(), now);
            }
        }
    }
}

fn add_sets(sets: &BTreeMap<String, u32>, t: &mut Transaction) {
    for (name, seconds) in sets {
        let set = Set {
            name: name.clone(),
            key: vec![DataType::Addr],
            verdicts: false,
            timeout_seconds: Some(*seconds),
            comment: String::new(),
        };
        t.push(Command::AddSet(set));
    }
}

#[cfg(test)]
mod tests;
