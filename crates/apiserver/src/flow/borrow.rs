//! Lending and borrowing: every ten seconds each level's limit is set anew by what it asked for, as upstream.
//!
//! A level keeps what it never lends and what it needed at most in the last period; what is left is shared out towards the
//! levels' smoothed demands, everybody getting the same fraction of his as far as his bounds allow.

use rt::time::Instant;

/// How much of the old smoothed demand stays, upstream's number.
const SMOOTHING: f64 = 0.977;

/// The seats that a level wanted over time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    since: Instant,
    at: Instant,
    value: f64,
    highest: f64,
    /// Sums over time: of the value, and of its square.
    sum: f64,
    squares: f64,
    smoothed: f64,
}

/// One period's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Figures {
    pub highest: f64,
    pub average: f64,
    pub deviation: f64,
    pub smoothed: f64,
}

impl Demand {
    pub fn new(now: Instant) -> Self {
        Self { since: now, at: now, value: 0.0, highest: 0.0, sum: 0.0, squares: 0.0, smoothed: 0.0 }
    }

    /// The demand is another from now on.
    pub fn set(&mut self, value: f64, now: Instant) {
        self.pass(now);
        self.value = value;
        self.highest = self.highest.max(value);
    }

    fn pass(&mut self, now: Instant) {
        let took = now.saturating_duration_since(self.at).as_secs_f64();
        self.sum += self.value * took;
        self.squares += self.value * self.value * took;
        self.at = now;
    }

    /// Ends a period.
    pub fn take(&mut self, now: Instant) -> Figures {
        self.pass(now);
        let span = now.saturating_duration_since(self.since).as_secs_f64();
        let (average, deviation) = if span > 0.0 {
            let average = self.sum / span;
            (average, (self.squares / span - average * average).max(0.0).sqrt())
        } else {
            (self.value, 0.0)
        };
        let envelope = average + deviation;
        self.smoothed = envelope.max(SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope);
        let figures = Figures { highest: self.highest, average, deviation, smoothed: self.smoothed };
        (self.since, self.sum, self.squares, self.highest) = (now, 0.0, 0.0, self.value);
        figures
    }
}

/// What a level may get at least and at most, and what it would like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Class {
    pub least: f64,
    pub most: f64,
    pub target: f64,
}

/// Shares out `total`: each class gets the same fraction of its target, within its bounds. Gives the shares and the fraction;
/// `None` when the bounds leave no way.
pub(super) fn allocate(total: f64, classes: &[Class]) -> Option<(Vec<f64>, f64)> {
    let (mut least, mut most) = (0.0, 0.0);
    for class in classes {
        if class.least > class.most {
            return None;
        }
        least += class.least;
        most += class.most;
    }
    if least > total * 1.000_001 {
        return None;
    }
    let shares = |fraction: f64| -> Vec<f64> {
        classes.iter().map(|c| (c.target.max(f64::EPSILON) * fraction).clamp(c.least, c.most)).collect()
    };
    if most <= total {
        return Some((classes.iter().map(|c| c.most).collect(), f64::INFINITY));
    }
    // The sum of the shares grows with the fraction: its value is found by halving.
    let (mut low, mut high) = (0.0, 1.0);
    while shares(high).iter().sum::<f64>() < total && high < 1e18 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if shares(middle).iter().sum::<f64>() < total { low = middle } else { high = middle }
    }
    Some((shares(high), high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn demand_is_measured_over_a_period() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut demand = Demand::new(start);
        demand.set(10.0, start);
        demand.set(0.0, at(5));
        let figures = demand.take(at(10));
        assert_eq!((figures.highest, figures.average, figures.deviation, figures.smoothed), (10.0, 5.0, 5.0, 10.0));
        let next = demand.take(at(20));
        assert_eq!((next.highest, next.average), (0.0, 0.0));
        assert!((next.smoothed - 9.77).abs() < 1e-9, "it goes down slowly: {next:?}");
    }

    #[test]
    fn seats_are_shared_within_bounds() {
        let class = |least: f64, most: f64, target: f64| Class { least, most, target };
        let cases = [
            (100.0, vec![class(10.0, 100.0, 30.0), class(10.0, 100.0, 20.0)], vec![60.0, 40.0]),
            (100.0, vec![class(10.0, 100.0, 0.0), class(10.0, 100.0, 20.0)], vec![10.0, 90.0]),
            (100.0, vec![class(10.0, 30.0, 50.0), class(10.0, 100.0, 5.0)], vec![30.0, 70.0]),
            (100.0, vec![class(10.0, 20.0, 5.0), class(10.0, 20.0, 5.0)], vec![20.0, 20.0]),
        ];
        for (total, classes, wanted) in cases {
            let (shares, _) = allocate(total, &classes).expect("there is a way");
            let close = shares.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 0.001);
            assert!(close, "{classes:?}: {shares:?} is not {wanted:?}");
        }
        assert!(allocate(10.0, &[class(8.0, 9.0, 1.0), class(8.0, 9.0, 1.0)]).is_none());
    }
}
