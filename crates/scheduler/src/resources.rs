//! Amounts as plain numbers: what filters and scores compute with.

use std::sync::Arc;

use component_helpers::requests::Resources;

/// Request that a container without one is counted with when scoring, upstream's defaults.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Resources of a pod or node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Thousandths of a core.
    pub(crate) milli_cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes.
    pub(crate) ephemeral_storage: i64,
    /// Pods; only of nodes.
    pub(crate) pods: i64,
    /// Extended resources and huge pages, sorted by name.
    pub(crate) scalars: Vec<(Arc<str>, i64)>,
}

impl Amounts {
    pub(crate) fn of(resources: &Resources) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in resources {
            match name.as_str() {
                "cpu" => amounts.milli_cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.value(),
                "pods" => amounts.pods = quantity.value(),
                other => amounts.scalars.push((other.into(), quantity.value())),
            }
        }
        amounts
    }

    /// CPU and memory with upstream's defaults where nothing is requested.
    pub(crate) fn non_zero(&self) -> (i64, i64) {
        let cpu = if self.milli_cpu == 0 { DEFAULT_MILLI_CPU } else { self.milli_cpu };
        (cpu, if self.memory == 0 { DEFAULT_MEMORY } else { self.memory })
    }

    pub(crate) fn scalar(&self, name: &str) -> i64 {
        self.scalars.binary_search_by(|(n, _)| (**n).cmp(name)).map_or(0, |at| self.scalars[at].1)
    }

    pub(crate) fn add(&mut self, other: &Self, sign: i64) {
        self.milli_cpu += sign * other.milli_cpu;
        self.memory += sign * other.memory;
        self.ephemeral_storage += sign * other.ephemeral_storage;
        for (name, amount) in &other.scalars {
            match self.scalars.binary_search_by(|(n, _)| n.cmp(name)) {
                Ok(at) => self.scalars[at].1 += sign * amount,
                Err(at) => self.scalars.insert(at, (name.clone(), sign * amount)),
            }
        }
    }

    /// Whether nothing is asked for but a place.
    pub(crate) fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.scalars.iter().all(|(_, amount)| *amount == 0)
    }
}
