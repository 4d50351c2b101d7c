//! Scores by the use of resources.

use crate::config::args::{BalancedArgs, Point, ResourceSpec, ScoringStrategy, StrategyType};
use crate::framework::{CycleState, CycleView, MAX_NODE_SCORE, Plugin, Points};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::resources::{Which, is_scalar};

/// Highest score of a point of a user's function.
const MAX_CUSTOM_SCORE: i64 = 10;

/// A resource that is scored.
#[derive(Debug, Clone)]
pub(super) struct Scored {
    which: Which,
    weight: i64,
    /// One that nodes without it are not blamed for, unless the pod asks for it.
    optional: bool,
}

impl Scored {
    pub(super) fn all(specs: &[ResourceSpec]) -> Vec<Self> {
        let one = |spec: &ResourceSpec| Self {
            which: Which::named(&spec.name),
            weight: spec.weight,
            optional: is_scalar(&spec.name),
        };
        specs.iter().map(one).collect()
    }
}

/// What the pod asks for, in the order of the resources; `exact` leaves out the defaults for containers that ask for
/// nothing.
pub(super) fn pod_amounts(pod: &PodInfo, scored: &[Scored], exact: bool) -> Vec<i64> {
    let amount = |one: &Scored| match one.which {
        Which::Cpu if !exact => pod.non_zero.0,
        Which::Memory if !exact => pod.non_zero.1,
        _ => one.which.of(&pod.requests),
    };
    scored.iter().map(amount).collect()
}

/// The use of a node's resources.
pub(super) struct Sums<'a> {
    pub(super) scored: &'a [Scored],
    pub(super) wanted: &'a [i64],
    pub(super) node: &'a NodeInfo,
    /// Count what is requested, not what scoring assumes.
    pub(super) requested: bool,
}

/// One resource: use with the pod, use without, room, weight.
pub(super) struct Use {
    with: i64,
    without: i64,
    room: i64,
    weight: i64,
}

impl Sums<'_> {
    /// The resources that count: those the node has, and vendors' resources only when the pod asks for them.
    fn uses(&self) -> impl Iterator<Item = Use> {
        self.scored.iter().zip(self.wanted).filter_map(|(one, wanted)| {
            if *wanted == 0 && one.optional {
                return None;
            }
            let room = one.which.of(&self.node.allocatable);
            let without = match one.which {
                Which::Cpu if !self.requested => self.node.non_zero.0,
                Which::Memory if !self.requested => self.node.non_zero.1,
                _ => one.which.of(&self.node.requested),
            };
            (room != 0).then_some(Use { with: without + wanted, without, room, weight: one.weight })
        })
    }
}

/// How a node's use becomes a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Strategy {
    LeastAllocated,
    MostAllocated,
    /// Points of percentage of use and score, the latter scaled to [`MAX_NODE_SCORE`].
    Ratio(Vec<(i64, i64)>),
}

/// A broken line through points.
fn line(points: &[(i64, i64)], at: i64) -> i64 {
    for (index, (x, y)) in points.iter().enumerate() {
        if at <= *x {
            let Some((x0, y0)) = index.checked_sub(1).and_then(|before| points.get(before)) else { return *y };
            return y0 + (y - y0) * (at - x0) / (x - x0).max(1);
        }
    }
    points.last().map_or(0, |(_, y)| *y)
}

impl Strategy {
    pub(crate) fn of(args: &ScoringStrategy) -> Self {
        match args.kind {
            StrategyType::LeastAllocated => Self::LeastAllocated,
            StrategyType::MostAllocated => Self::MostAllocated,
            StrategyType::RequestedToCapacityRatio => {
                let shape = args.requested_to_capacity_ratio.as_ref().map_or(&[][..], |r| &r.shape);
                let scaled =
                    |p: &Point| (i64::from(p.utilization), i64::from(p.score) * (MAX_NODE_SCORE / MAX_CUSTOM_SCORE));
                Self::Ratio(shape.iter().map(scaled).collect())
            }
        }
    }

    pub(super) fn score(&self, sums: &Sums<'_>) -> i64 {
        let (mut total, mut weights) = (0i64, 0i64);
        for one in sums.uses() {
            let over = one.with > one.room;
            let score = match self {
                Self::LeastAllocated if over => 0,
                Self::LeastAllocated => (one.room - one.with) * MAX_NODE_SCORE / one.room,
                Self::MostAllocated => one.with.min(one.room) * MAX_NODE_SCORE / one.room,
                Self::Ratio(points) if over => line(points, 100),
                Self::Ratio(points) => line(points, one.with * 100 / one.room),
            };
            // Upstream leaves resources out that score nothing by ratio.
            if matches!(self, Self::Ratio(_)) && score <= 0 {
                continue;
            }
            total += score * one.weight;
            weights += one.weight;
        }
        match (self, weights) {
            (_, 0) => 0,
            (Self::Ratio(_), weights) => (total as f64 / weights as f64).round() as i64,
            (_, weights) => total / weights,
        }
    }
}

/// Prefers nodes on which the resources are used alike.
pub(crate) struct BalancedAllocation {
    resources: Vec<Scored>,
}

impl BalancedAllocation {
    pub(crate) fn new(args: BalancedArgs) -> Self {
        Self { resources: Scored::all(&args.resources) }
    }
}

/// How much alike: [`MAX_NODE_SCORE`] less the standard deviation of the fractions used.
fn evenness(fractions: &[f64]) -> i64 {
    let deviation = match fractions {
        [a, b] => ((a - b) / 2.0).abs(),
        many if many.len() > 2 => {
            let mean = many.iter().sum::<f64>() / many.len() as f64;
            (many.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / many.len() as f64).sqrt()
        }
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}

fn fraction(used: i64, room: i64) -> f64 {
    (used as f64 / room as f64).min(1.0)
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> Points {
        Points::PRE_SCORE.and(Points::SCORE)
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, _: &[usize], view: CycleView<'_>) -> bool {
        let wanted = pod_amounts(pod, &self.resources, true);
        // A best-effort pod changes no balance.
        let any = wanted.iter().any(|w| *w != 0);
        if any {
            state.put_score(view.plugin, wanted);
        }
        any
    }

    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        let Some(wanted) = state.get_score::<Vec<i64>>(view.plugin) else { return 0 };
        let sums = Sums { scored: &self.resources, wanted, node, requested: true };
        let (mut with, mut without) = ([0.0; 16], [0.0; 16]);
        let mut count = 0;
        for one in sums.uses().take(16) {
            with[count] = fraction(one.with, one.room);
            without[count] = fraction(one.without, one.room);
            count += 1;
        }
        let change = evenness(&with[..count]) - evenness(&without[..count]);
        MAX_NODE_SCORE / 2 + (MAX_NODE_SCORE / 2 + change) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let points = [(0, 0), (50, 100), (100, 20)];
        for (at, want) in [(0, 0), (25, 50), (50, 100), (75, 60), (100, 20), (150, 20)] {
            assert_eq!(line(&points, at), want, "{at}");
        }
    }

    #[test]
    fn even_use() {
        assert_eq!(evenness(&[0.5, 0.5]), 100);
        assert_eq!(evenness(&[1.0, 0.0]), 50);
        assert_eq!(evenness(&[0.3]), 100);
        assert_eq!(evenness(&[0.0, 0.5, 1.0]), 59);
    }
}
