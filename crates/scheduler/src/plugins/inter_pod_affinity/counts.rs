//! Counts by parts of the topology.

use api::Kind;
use api::k8s::core::v1::Node;

use super::ByTopology;

fn add(map: &mut ByTopology, node: &Node, key: &str, by: i64) {
    let Some(value) = node.label(key) else { return };
    if !map.contains_key(key) {
        map.insert(key.to_owned(), Default::default());
    }
    let Some(values) = map.get_mut(key) else { return };
    match values.get_mut(value) {
        Some(count) => *count += by,
        None => {
            values.insert(value.to_owned(), by);
        }
    }
}

/// Pods by the part of the topology that they are in; none means zero.
#[derive(Clone, Default)]
pub(super) struct Counts(ByTopology);

impl Counts {
    pub(super) fn add(&mut self, node: &Node, key: &str, by: i64) {
        add(&mut self.0, node, key, by);
        if let (Some(value), Some(values)) = (node.label(key), self.0.get_mut(key)) {
            if values.get(value) == Some(&0) {
                values.remove(value);
            }
            if values.is_empty() {
                self.0.remove(key);
            }
        }
    }

    pub(super) fn has(&self, key: &str, value: &str) -> bool {
        self.0.get(key).and_then(|values| values.get(value)).is_some_and(|count| *count > 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Weights by the part of the topology.
#[derive(Clone, Default)]
pub(super) struct Scores(ByTopology);

impl Scores {
    pub(super) fn add_if(&mut self, matches: bool, node: &Node, key: &str, weight: i64) {
        if matches {
            add(&mut self.0, node, key, weight);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, node: &Node) -> i64 {
        self.0.iter().filter_map(|(key, values)| values.get(node.label(key)?)).sum()
    }
}
