//! Which devices are taken, kept up to date by the watch and by what was decided but is not written yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::k8s::resource::v1::{AllocationResult, DeviceRequestAllocationResult};
use parking_lot::Mutex;
use rt::HashMap;

use super::claims::devices;

/// Amounts by name, in billionths.
pub(super) type Nanos = BTreeMap<String, i128>;

/// `driver/pool/device`. Drivers and devices have no slash, so it cannot be mistaken.
pub(super) fn device_id(driver: &str, pool: &str, device: &str) -> String {
    format!("{driver}/{pool}/{device}")
}

/// Billionths of a quantity; one that cannot be read (the API server lets none in) is nothing.
pub(super) fn nanos(quantity: &api::prelude::Quantity) -> i128 {
    quantity.0.parse::<meta::quantity::Quantity>().map_or(0, meta::quantity::Quantity::nanos)
}

/// What is taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    /// Devices for one claim alone, and how often (once, unless two claims got the same by mistake).
    exclusive: HashMap<String, u32>,
    /// Devices that several claims share, and how many do.
    shared: HashMap<String, u32>,
    /// What is consumed of the shared ones.
    capacity: HashMap<String, Nanos>,
}

fn count(map: &mut HashMap<String, u32>, id: &str, up: bool) {
    if up {
        *map.entry(id.to_owned()).or_default() += 1;
    } else if let Some(uses) = map.get_mut(id) {
        *uses -= 1;
        if *uses == 0 {
            map.remove(id);
        }
    }
}

impl Taken {
    fn change(&mut self, allocation: &AllocationResult, up: bool) {
        for device in devices(allocation).iter().filter(|d| d.admin_access != Some(true)) {
            let id = device_id(&device.driver, &device.pool, &device.device);
            if device.share_id.is_some() {
                count(&mut self.shared, &id, up);
                self.consume(id, device, if up { 1 } else { -1 });
            } else {
                count(&mut self.exclusive, &id, up);
            }
        }
    }

    fn consume(&mut self, id: String, device: &DeviceRequestAllocationResult, sign: i128) {
        let Some(consumed) = &device.consumed_capacity else { return };
        let used = self.capacity.entry(id.clone()).or_default();
        for (name, amount) in consumed {
            *used.entry(name.clone()).or_default() += sign * nanos(amount);
        }
        if used.values().all(|amount| *amount == 0) {
            self.capacity.remove(&id);
        }
    }

    /// Whether a device is somebody's alone.
    pub(super) fn is_taken(&self, id: &str) -> bool {
        self.exclusive.contains_key(id)
    }

    /// Whether a device is used at all.
    pub(super) fn is_used(&self, id: &str) -> bool {
        self.is_taken(id) || self.shared.contains_key(id)
    }

    /// What is consumed of a device.
    pub(super) fn consumed(&self, id: &str) -> Option<&Nanos> {
        self.capacity.get(id)
    }
}

#[derive(Default)]
struct Inner {
    taken: Arc<Taken>,
    /// Decided but not seen in the watch yet, by the claim's uid.
    pending: HashMap<String, AllocationResult>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Inner>);

impl Ledger {
    /// What is taken now.
    pub(super) fn taken(&self) -> Arc<Taken> {
        self.0.lock().taken.clone()
    }

    /// A claim changed in the API.
    pub(super) fn seen(&self, uid: &str, old: Option<&AllocationResult>, new: Option<&AllocationResult>) {
        if old.is_none() && new.is_none() {
            return;
        }
        let mut inner = self.0.lock();
        // What was decided is now what is written, or something else was faster; either way the API is right.
        let decided = if new.is_some() { inner.pending.remove(uid) } else { None };
        let taken = Arc::make_mut(&mut inner.taken);
        decided.iter().chain(old).for_each(|gone| taken.change(gone, false));
        new.iter().for_each(|come| taken.change(come, true));
    }

    /// Takes devices for a claim before that is written.
    pub(super) fn take(&self, uid: &str, allocation: &AllocationResult) {
        let mut inner = self.0.lock();
        Arc::make_mut(&mut inner.taken).change(allocation, true);
        if let Some(before) = inner.pending.insert(uid.to_owned(), allocation.clone()) {
            Arc::make_mut(&mut inner.taken).change(&before, false);
        }
    }

    /// Gives back what was taken and will not be written.
    pub(super) fn give_back(&self, uid: &str) {
        let mut inner = self.0.lock();
        if let Some(gone) = inner.pending.remove(uid) {
            Arc::make_mut(&mut inner.taken).change(&gone, false);
        }
    }

    /// What was taken for a claim in memory is its object's from now on.
    pub(super) fn rename(&self, uid: &str, object: &str) {
        let mut inner = self.0.lock();
        if let Some(allocation) = inner.pending.remove(uid) {
            inner.pending.insert(object.to_owned(), allocation);
        }
    }

    /// Whether a claim's allocation is decided and not seen yet.
    pub(super) fn is_pending(&self, uid: &str) -> bool {
        self.0.lock().pending.contains_key(uid)
    }
}
