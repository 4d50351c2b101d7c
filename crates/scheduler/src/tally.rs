//! What pods on nodes add to a question, kept from cycle to cycle.
//!
//! Many pods ask the same: those of one controller. Between two of them few nodes change, so what each node adds is kept
//! with the node's generation, and only nodes that changed are looked at again.

use std::sync::Arc;

use parking_lot::Mutex;
use rt::HashMap;

use crate::node_info::NodeInfo;
use crate::snapshot::Snapshot;

/// Questions that are kept.
const KEPT: usize = 16;

/// The parts of a topology that nodes are in, by a label.
pub(crate) struct Topology {
    /// The number of each place's value; [`NOWHERE`] for nodes without the label.
    pub(crate) ids: Vec<u32>,
    by_value: HashMap<String, u32>,
}

/// A node has no such label.
pub(crate) const NOWHERE: u32 = u32::MAX;

impl Topology {
    pub(crate) fn new<'a>(labels: impl Iterator<Item = Option<&'a str>>) -> Self {
        let mut by_value: HashMap<String, u32> = HashMap::default();
        let mut ids = Vec::with_capacity(labels.size_hint().0);
        for value in labels {
            let Some(value) = value else {
                ids.push(NOWHERE);
                continue;
            };
            let next = u32::try_from(by_value.len()).unwrap_or(NOWHERE);
            ids.push(match by_value.get(value) {
                Some(known) => *known,
                None => {
                    by_value.insert(value.to_owned(), next);
                    next
                }
            });
        }
        Self { ids, by_value }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.by_value.len()
    }

    /// The number of a value.
    pub(crate) fn id(&self, value: &str) -> Option<usize> {
        self.by_value.get(value).and_then(|id| usize::try_from(*id).ok())
    }
}

/// What a node adds: amounts by the label that the question is about.
pub(crate) type Share = Vec<(Arc<str>, i64)>;

struct Tally<Q> {
    question: Q,
    generations: Vec<u64>,
    shares: Arc<Vec<Share>>,
}

/// See the module.
pub(crate) struct Tallies<Q>(Mutex<Vec<Tally<Q>>>);

impl<Q> Default for Tallies<Q> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Q: PartialEq> Tallies<Q> {
    /// What each node adds to a question, by place.
    pub(crate) fn shares(
        &self,
        question: Q,
        nodes: &[Arc<NodeInfo>],
        of: impl Fn(&Q, &NodeInfo) -> Share,
    ) -> Arc<Vec<Share>> {
        let mut kept = self.0.lock();
        let mut tally = match kept.iter().position(|t| t.question == question) {
            Some(at) => kept.remove(at),
            None => Tally { question, generations: Vec::new(), shares: Arc::default() },
        };
        let shares = Arc::make_mut(&mut tally.shares);
        shares.resize_with(nodes.len(), Vec::new);
        // No node has generation 0.
        tally.generations.resize(nodes.len(), 0);
        for (at, node) in nodes.iter().enumerate() {
            if tally.generations[at] != node.generation {
                tally.generations[at] = node.generation;
                shares[at] = of(&tally.question, node);
            }
        }
        let shares = tally.shares.clone();
        // The oldest goes first.
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(tally);
        shares
    }
}

/// Sums by the parts of topologies.
#[derive(Clone, Default)]
pub(crate) struct Sums {
    by_key: Vec<(Arc<str>, Arc<Topology>, Vec<i64>)>,
    /// Sums that are not zero.
    some: usize,
}

impl Sums {
    /// Sums what nodes add over the parts of the topology that they are in.
    pub(crate) fn of(shares: &[Share], snapshot: &Snapshot) -> Self {
        let mut sums = Self::default();
        for (at, share) in shares.iter().enumerate() {
            for (key, amount) in share {
                let (topology, values) = sums.at(key, snapshot);
                let id = topology.ids.get(at).copied().unwrap_or(NOWHERE);
                if let Some(value) = usize::try_from(id).ok().and_then(|id| values.get_mut(id)) {
                    *value += amount;
                }
            }
        }
        sums.some = sums.by_key.iter().map(|(_, _, values)| values.iter().filter(|v| **v != 0).count()).sum();
        sums
    }

    fn at(&mut self, key: &Arc<str>, snapshot: &Snapshot) -> (&Topology, &mut Vec<i64>) {
        let known = self.by_key.iter().position(|(known, _, _)| Arc::ptr_eq(known, key) || **known == **key);
        let at = known.unwrap_or_else(|| {
            let topology = snapshot.topology(key);
            let values = vec![0; topology.len()];
            self.by_key.push((key.clone(), topology, values));
            self.by_key.len() - 1
        });
        let (_, topology, values) = &mut self.by_key[at];
        (topology, values)
    }

    /// Changes one sum, of a label's value.
    pub(crate) fn add(&mut self, key: &Arc<str>, value: &str, by: i64, snapshot: &Snapshot) {
        let (topology, values) = self.at(key, snapshot);
        let Some(sum) = topology.id(value).and_then(|id| values.get_mut(id)) else { return };
        let before = *sum;
        *sum += by;
        let after = *sum;
        self.some = self.some + usize::from(before == 0 && after != 0) - usize::from(before != 0 && after == 0);
    }

    /// A sum.
    pub(crate) fn get(&self, key: &str, value: &str) -> i64 {
        let of_key = self.by_key.iter().find(|(known, _, _)| **known == *key);
        of_key.and_then(|(_, topology, values)| values.get(topology.id(value)?).copied()).unwrap_or(0)
    }

    /// The labels that there are sums by.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.by_key.iter().map(|(key, _, _)| &**key)
    }

    /// Whether all sums are zero.
    pub(crate) fn is_empty(&self) -> bool {
        self.some == 0
    }
}
