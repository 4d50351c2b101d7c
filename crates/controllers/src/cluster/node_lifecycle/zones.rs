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
    judged: Option<(Instant, HashMap<String, (State, usize)>)>,
}

/// How long to wait before asking again when nothing may be emptied.
const LATER: Duration = Duration::from_secs(5);
/// How long what was found out about all nodes is good for.
const FRESH: Duration = Duration::from_secs(1);

fn zone(node: &Node) -> String {
    let label = |name: &str| node.label(name).unwrap_or_default();
    format!("{}/{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

impl Zones {
    pub(super) fn new(rates: EvictionRates) -> Self {
        Self { rates, next: HashMap::default(), judged: None }
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

    /// The state and size of each zone, not older than [`FRESH`]: it is asked once per silent node, and is about all.
    fn judge(&mut self, all: impl FnOnce() -> Vec<Arc<Node>>, now: Instant) {
        if self.judged.as_ref().is_some_and(|(at, _)| now.saturating_duration_since(*at) < FRESH) {
            return;
        }
        let all = all();
        let mut by_zone: HashMap<String, Vec<&Arc<Node>>> = HashMap::default();
        for node in &all {
            by_zone.entry(zone(node)).or_default().push(node);
        }
        let states = by_zone.iter().map(|(zone, nodes)| (zone.clone(), (self.state(nodes), nodes.len()))).collect();
        self.judged = Some((now, states));
    }

    /// Whether a node may be emptied now; else when to ask again.
    pub(super) fn admit(
        &mut self,
        node: &Node,
        all: impl FnOnce() -> Vec<Arc<Node>>,
        now: Instant,
    ) -> Result<(), Duration> {
        self.judge(all, now);
        let Some((_, states)) = &self.judged else { return Err(LATER) };
        if states.values().all(|(state, _)| *state == State::Full) {
            return Err(LATER);
        }
        let zone = zone(node);
        let rate = match states.get(&zone) {
            Some((State::Partial, size)) if *size > self.rates.large => self.rates.unhealthy,
            Some((State::Partial, _)) => 0.0,
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
