//! The pools of devices that a node can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, NodeSelector};
use api::k8s::resource::v1::{Device, ResourceSlice};
use component_helpers::node_affinity::terms;

use super::ledger::{Nanos, nanos};

/// All slices, those of single nodes by node.
#[derive(Default)]
pub(super) struct Slices {
    by_node: BTreeMap<String, Vec<Arc<ResourceSlice>>>,
    shared: Vec<Arc<ResourceSlice>>,
    all: Vec<Arc<ResourceSlice>>,
}

/// Devices of one driver that belong together.
pub(super) struct Pool {
    pub(super) driver: String,
    pub(super) name: String,
    /// Its slices are being replaced: nothing is taken of it.
    pub(super) incomplete: bool,
    /// It contradicts itself: nothing is taken of it.
    pub(super) invalid: bool,
    /// The slices with devices for the node.
    pub(super) slices: Vec<Arc<ResourceSlice>>,
    /// Its other slices, where devices may consume the same counters.
    pub(super) others: Vec<Arc<ResourceSlice>>,
    /// Counters by set and name.
    pub(super) counters: BTreeMap<String, Nanos>,
}

pub(super) fn devices(slice: &ResourceSlice) -> &[Device] {
    slice.spec.devices.as_deref().unwrap_or_default()
}

fn shared_counters(slice: &ResourceSlice) -> bool {
    slice.spec.shared_counters.as_ref().is_some_and(|c| !c.is_empty())
}

fn reaches(node: &Node, name: Option<&str>, all: Option<bool>, selector: Option<&NodeSelector>) -> bool {
    match (name.filter(|n| !n.is_empty()), all, selector) {
        (Some(name), ..) => node.name() == name,
        (None, Some(true), _) => true,
        (None, _, Some(selector)) => terms(selector).iter().any(|term| term.matches(node)),
        _ => false,
    }
}

/// Whether a device that says itself where it is can be had on the node.
pub(super) fn device_reaches(device: &Device, node: &Node) -> bool {
    reaches(node, device.node_name.as_deref(), device.all_nodes, device.node_selector.as_ref())
}

fn is_relevant(slice: &ResourceSlice, node: &Node) -> bool {
    let spec = &slice.spec;
    if shared_counters(slice) {
        return true;
    }
    if spec.per_device_node_selection == Some(true) {
        return devices(slice).iter().any(|device| device_reaches(device, node));
    }
    reaches(node, spec.node_name.as_deref(), spec.all_nodes, spec.node_selector.as_ref())
}

impl Slices {
    pub(super) fn new(all: Vec<Arc<ResourceSlice>>) -> Self {
        let mut slices = Self::default();
        for slice in &all {
            match slice.spec.node_name.as_deref().filter(|name| !name.is_empty() && !shared_counters(slice)) {
                Some(name) => slices.by_node.entry(name.to_owned()).or_default().push(slice.clone()),
                None => slices.shared.push(slice.clone()),
            }
        }
        slices.all = all;
        slices
    }

    /// The pools that the node reaches: by driver and name, those with devices that need preparing last.
    pub(super) fn pools(&self, node: &Node) -> Vec<Pool> {
        let mut found: BTreeMap<(&str, &str), Vec<Arc<ResourceSlice>>> = BTreeMap::new();
        for slice in self.by_node.get(node.name()).into_iter().flatten().chain(&self.shared) {
            if !is_relevant(slice, node) {
                continue;
            }
            let slices = found.entry((&slice.spec.driver, &slice.spec.pool.name)).or_default();
            let newest = slices.first().map_or(i64::MIN, |s| s.spec.pool.generation);
            if slice.spec.pool.generation > newest {
                slices.clear();
            }
            if slice.spec.pool.generation >= newest {
                slices.push(slice.clone());
            }
        }
        let all = found.into_iter().filter_map(|((driver, name), slices)| self.pool(driver, name, slices));
        let (mut ready, prepared): (Vec<Pool>, Vec<Pool>) = all.partition(|pool| !needs_preparing(pool));
        ready.extend(prepared);
        ready
    }

    /// None when a newer generation of the pool is on its way, with no devices for the node so far.
    fn pool(&self, driver: &str, name: &str, mut slices: Vec<Arc<ResourceSlice>>) -> Option<Pool> {
        let pool = &slices.first()?.spec.pool;
        let (generation, wanted) = (pool.generation, usize::try_from(pool.resource_slice_count).unwrap_or(usize::MAX));
        let mut made = Pool {
            driver: driver.to_owned(),
            name: name.to_owned(),
            incomplete: false,
            invalid: false,
            slices: Vec::new(),
            others: Vec::new(),
            counters: BTreeMap::new(),
        };
        if slices.len() != wanted {
            let of_pool = |s: &&Arc<ResourceSlice>| s.spec.driver == driver && s.spec.pool.name == name;
            let all: Vec<&Arc<ResourceSlice>> = self.all.iter().filter(of_pool).collect();
            if all.iter().any(|s| s.spec.pool.generation > generation) {
                return None;
            }
            let current = all.into_iter().filter(|s| s.spec.pool.generation == generation);
            made.others = current.filter(|s| !slices.iter().any(|known| known.uid() == s.uid())).cloned().collect();
            made.incomplete = made.others.len() + slices.len() != wanted;
        }
        slices.sort_by(|a, b| a.name().cmp(b.name()));
        if !made.incomplete {
            made.invalid = made.fill(slices).is_none();
        }
        Some(made)
    }
}

impl Pool {
    /// None when the pool contradicts itself: devices or sets of one name, or counters that are not there.
    fn fill(&mut self, slices: Vec<Arc<ResourceSlice>>) -> Option<()> {
        let (sets, slices): (Vec<_>, Vec<_>) = slices.into_iter().partition(|s| shared_counters(s));
        self.slices = slices;
        let mut names = BTreeSet::new();
        if !self.slices.iter().flat_map(|s| devices(s)).all(|device| names.insert(device.name.as_str())) {
            return None;
        }
        for set in sets.iter().flat_map(|s| s.spec.shared_counters.iter().flatten()) {
            let counters = set.counters.iter().map(|(name, counter)| (name.clone(), nanos(&counter.value))).collect();
            if self.counters.insert(set.name.clone(), counters).is_some() {
                return None;
            }
        }
        let all = self.slices.iter().chain(&self.others).flat_map(|s| devices(s));
        for consumed in all.flat_map(|d| d.consumes_counters.iter().flatten()) {
            let set = self.counters.get(&consumed.counter_set)?;
            if !consumed.counters.keys().all(|name| set.contains_key(name)) {
                return None;
            }
        }
        Some(())
    }

    /// Whether devices may be taken of it.
    pub(super) fn is_usable(&self) -> bool {
        !self.incomplete && !self.invalid
    }
}

fn needs_preparing(pool: &Pool) -> bool {
    pool.slices.iter().flat_map(|s| devices(s)).any(|d| d.binding_conditions.is_some())
}
