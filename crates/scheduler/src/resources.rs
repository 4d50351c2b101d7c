//! Amounts as plain numbers: what filters and scores compute with.

use std::sync::{Arc, LazyLock};

use api::k8s::core::v1::Pod;
use component_helpers::requests::{Counting, Resources, pod_requests_with};
use meta::quantity::Quantity;

/// Request that a container without one is counted with when scoring, upstream's defaults.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

static MISSING: LazyLock<Resources> = LazyLock::new(|| {
    let memory = Quantity::from_units(DEFAULT_MEMORY, meta::quantity::Format::BinarySi);
    Resources::from([("cpu".to_owned(), Quantity::from_millis(DEFAULT_MILLI_CPU)), ("memory".to_owned(), memory)])
});

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

    /// What a pod takes of its node: a resize under way takes the larger of old and new.
    pub(crate) fn requested_by(pod: &Pod) -> Self {
        Self::of(&pod_requests_with(pod, Counting { status: true, missing: None }))
    }

    /// CPU and memory of a pod with upstream's defaults for containers that request none.
    pub(crate) fn non_zero(pod: &Pod) -> (i64, i64) {
        let all = Self::of(&pod_requests_with(pod, Counting { status: true, missing: Some(&MISSING) }));
        (all.milli_cpu, all.memory)
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

    /// Whether any of the resources that `wanted` asks for became more than in `before`.
    pub(crate) fn more_than(&self, before: &Self, wanted: &Self) -> bool {
        (wanted.milli_cpu > 0 && self.milli_cpu > before.milli_cpu)
            || (wanted.memory > 0 && self.memory > before.memory)
            || (wanted.ephemeral_storage > 0 && self.ephemeral_storage > before.ephemeral_storage)
            || wanted.scalars.iter().any(|(name, want)| *want > 0 && self.scalar(name) > before.scalar(name))
    }
}

/// A resource by its place in [`Amounts`], so that it is not looked up by name for each node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    Cpu,
    Memory,
    Storage,
    Pods,
    Scalar(Arc<str>),
}

impl Which {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "cpu" => Self::Cpu,
            "memory" => Self::Memory,
            "ephemeral-storage" => Self::Storage,
            "pods" => Self::Pods,
            other => Self::Scalar(other.into()),
        }
    }

    /// The amount of it.
    pub(crate) fn of(&self, amounts: &Amounts) -> i64 {
        match self {
            Self::Cpu => amounts.milli_cpu,
            Self::Memory => amounts.memory,
            Self::Storage => amounts.ephemeral_storage,
            Self::Pods => amounts.pods,
            Self::Scalar(name) => amounts.scalar(name),
        }
    }
}

/// Whether a resource is one that upstream keeps by name: extended, huge pages, or an attachable volume's limit.
pub(crate) fn is_scalar(name: &str) -> bool {
    !matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pods" | "storage")
}

/// Whether a resource belongs to a vendor.
pub(crate) fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}
