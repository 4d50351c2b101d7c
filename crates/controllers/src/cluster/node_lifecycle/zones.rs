//! How fast the nodes of a zone may be emptied.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::Node;
use rt::HashMap;
use rt::time::Instant;

use super::taints::condition;
use crate::frame::EvictionRates;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Healthy,
    Partial,
    Full,
}

/// When each zone may give its next taint.
pub(super) struct Zones {
    rates: EvictionRates,
    next: HashMap<String, Instant>,
}

/// How long to wait before asking again when nothing may be emptied.
const LATER: Duration = Duration::from_secs(5);

fn zone(node: &Node) -> String {
    let label = |name: &str| node.label(name).unwrap_or_default();
    format!("{}/{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

impl Zones {
    pub(super) fn new(rates: EvictionRates) -> Self {
        Self { rates, next: HashMap::default() }
    }

    fn state(&self, nodes: &[&Arc<Node>]) -> State {
        let down = nodes.iter().filter(|n| condition(n, "Ready").is_none_or(|c| c.status != "True")).count();
        let share = down as f32 / nodes.len().max(1) as f32;
        if down == nodes.len() && down > 0 {
            State::Full
        } else if down > 2 && share >= self.rates.threshold {
            State::Partial
        } else {
            State::Healthy
        }
    }

    /// Whether a node may be emptied now; else when to ask again.
    pub(super) fn admit(&mut self, node: &Node, all: &[Arc<Node>], now: Instant) -> Result<(), Duration> {
        let mut by_zone: HashMap<String, Vec<&Arc<Node>>> = HashMap::default();
        for node in all {
            by_zone.entry(zone(node)).or_default().push(node);
        }
        let states: HashMap<String, State> =
            by_zone.iter().map(|(zone, nodes)| (zone.clone(), self.state(nodes))).collect();
        if states.values().all(|state| *state == State::Full) {
            return Err(LATER);
        }
        let zone = zone(node);
        let size = by_zone.get(&zone).map_or(1, Vec::len);
        let rate = match states.get(&zone) {
            Some(State::Partial) if size > self.rates.large => self.rates.unhealthy,
            Some(State::Partial) => 0.0,
            _ => self.rates.healthy,
        };
        if rate <= 0.0 {
            return Err(LATER);
        }
        let next = self.next.get(&zone).copied().unwrap_or(now);
        if next > now {
            return Err(next - now);
        }
        self.next.insert(zone, now + Duration::from_secs_f32(1.0 / rate));
        Ok(())
    }
}
