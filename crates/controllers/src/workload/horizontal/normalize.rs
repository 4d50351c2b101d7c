//! From what metrics ask for to what is done: limits, rates and stabilisation.

use std::time::Duration;

use api::k8s::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use rt::time::Instant;

/// What is remembered of an autoscaler.
#[derive(Debug, Default)]
pub(super) struct Memory {
    recommendations: Vec<(Instant, i32)>,
    ups: Vec<(Instant, i32)>,
    downs: Vec<(Instant, i32)>,
}

/// The bounds of an autoscaler and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) min: i32,
    pub(super) max: i32,
    pub(super) current: i32,
}

/// A reason and its message.
pub(super) type Why = (&'static str, &'static str);

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Normalized {
    pub(super) replicas: i32,
    /// For condition `AbleToScale`.
    pub(super) able: Why,
    /// For condition `ScalingLimited`.
    pub(super) limited: bool,
    pub(super) why: Why,
}

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: Why = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Why = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Why = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Why =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

fn seconds(count: Option<i32>) -> Duration {
    Duration::from_secs(u64::try_from(count.unwrap_or(0)).unwrap_or(0))
}

fn age(now: Instant, at: Instant) -> Duration {
    now.saturating_duration_since(at)
}

/// Sums the changes of a period.
fn changes(events: &[(Instant, i32)], now: Instant, period: i32) -> i32 {
    events.iter().filter(|(at, _)| age(now, *at) < seconds(Some(period))).map(|(_, change)| change).sum()
}

impl Memory {
    /// The first look counts as a recommendation, so that a restart does not shrink at once.
    pub(super) fn begin(&mut self, now: Instant, current: i32) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// Writes down that the scale was changed.
    pub(super) fn scaled(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        now: Instant,
        from: i32,
        to: i32,
    ) {
        let Some(behavior) = behavior else { return };
        let (events, rules) =
            if to > from { (&mut self.ups, &behavior.scale_up) } else { (&mut self.downs, &behavior.scale_down) };
        let policies = rules.iter().flat_map(|r| r.policies.iter().flatten());
        let longest = seconds(policies.map(|p| p.period_seconds).max());
        events.retain(|(at, _)| age(now, *at) <= longest);
        events.push((now, (to - from).abs()));
    }

    /// Without behaviours: shrink to the highest recommendation of the window, grow to at most twice the size or four.
    pub(super) fn plain(&mut self, range: Range, desired: i32, window: Duration, now: Instant) -> Normalized {
        self.recommendations.retain(|(at, _)| age(now, *at) <= window);
        let stable = self.recommendations.iter().map(|(_, count)| *count).fold(desired, i32::max);
        self.recommendations.push((now, desired));
        let able = if stable == desired { READY } else { DOWN_STABILIZED };
        let up_limit = range.current.saturating_mul(2).max(4);
        let (most, most_why) = if range.max > up_limit { (up_limit, UP_LIMIT) } else { (range.max, TOO_MANY) };
        let (replicas, why) = if stable < range.min {
            (range.min, TOO_FEW)
        } else if stable > most {
            (most, most_why)
        } else {
            (stable, WITHIN)
        };
        Normalized { replicas, able, limited: replicas != stable, why }
    }

    /// With behaviours: windows, policies and their periods in both directions.
    pub(super) fn with_behavior(
        &mut self,
        behavior: &HorizontalPodAutoscalerBehavior,
        range: Range,
        desired: i32,
        default_down: Duration,
        now: Instant,
    ) -> Normalized {
        let none = HPAScalingRules::default();
        let (up, down) = (behavior.scale_up.as_ref().unwrap_or(&none), behavior.scale_down.as_ref().unwrap_or(&none));
        let up_window = seconds(up.stabilization_window_seconds);
        let down_window = down.stabilization_window_seconds.map_or(default_down, |s| seconds(Some(s)));
        let stable = self.stabilize(range.current, desired, up_window, down_window, now);
        let able = match stable == desired {
            true => READY,
            false if desired >= range.current => UP_STABILIZED,
            false => DOWN_STABILIZED,
        };
        let (replicas, why) = self.limit(range, stable, up, down, now);
        Normalized { replicas, able, limited: replicas != stable, why }
    }

    fn stabilize(&mut self, current: i32, desired: i32, up: Duration, down: Duration, now: Instant) -> i32 {
        let (mut low, mut high) = (desired, desired);
        for (at, count) in &self.recommendations {
            if age(now, *at) < up {
                low = low.min(*count);
            }
            if age(now, *at) < down {
                high = high.max(*count);
            }
        }
        self.recommendations.retain(|(at, _)| age(now, *at) <= up.max(down));
        self.recommendations.push((now, desired));
        current.max(low).min(high)
    }

    fn limit(
        &self,
        range: Range,
        desired: i32,
        up: &HPAScalingRules,
        down: &HPAScalingRules,
        now: Instant,
    ) -> (i32, Why) {
        if desired > range.current {
            let rate = self.rate(range.current, up, true, now).max(range.current);
            let (most, why) = if range.max > rate { (rate, UP_LIMIT) } else { (range.max, TOO_MANY) };
            if desired > most {
                return (most, why);
            }
        } else if desired < range.current {
            let rate = self.rate(range.current, down, false, now).min(range.current);
            let (least, why) = if range.min < rate { (rate, DOWN_LIMIT) } else { (range.min, TOO_FEW) };
            if desired < least {
                return (least, why);
            }
        }
        (desired, WITHIN)
    }

    /// How far the policies let the scale go now.
    fn rate(&self, current: i32, rules: &HPAScalingRules, up: bool, now: Instant) -> i32 {
        let select = rules.select_policy.as_deref().unwrap_or("Max");
        if select == "Disabled" {
            return current;
        }
        let proposals = rules.policies.iter().flatten().map(|policy| {
            let start = current - changes(&self.ups, now, policy.period_seconds)
                + changes(&self.downs, now, policy.period_seconds);
            match (policy.type_.as_str(), up) {
                ("Pods", true) => start.saturating_add(policy.value),
                ("Pods", false) => start.saturating_sub(policy.value),
                // Rounded up, so that a small share grows at all.
                (_, true) => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
                (_, false) => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            }
        });
        // The greatest change is the highest count on the way up and the lowest on the way down.
        let highest = (select == "Max") == up;
        let found = if highest { proposals.max() } else { proposals.min() };
        found.unwrap_or(if up { i32::MAX } else { i32::MIN })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn behavior(value: serde_json::Value) -> HorizontalPodAutoscalerBehavior {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn without_behaviors() {
        let start = Instant::now();
        let window = Duration::from_secs(300);
        let range = Range { min: 1, max: 10, current: 5 };
        let mut memory = Memory::default();
        memory.begin(start, 5);
        let found = memory.plain(range, 1, window, start + Duration::from_secs(10));
        assert_eq!((found.replicas, found.able), (5, DOWN_STABILIZED));
        let found = memory.plain(range, 1, window, start + Duration::from_secs(301));
        assert_eq!((found.replicas, found.able, found.limited), (1, READY, false));
        let found = memory.plain(Range { current: 1, ..range }, 9, window, start + Duration::from_secs(302));
        assert_eq!((found.replicas, found.why), (4, UP_LIMIT));
        let found = memory.plain(range, 20, window, start + Duration::from_secs(303));
        assert_eq!((found.replicas, found.why), (10, TOO_MANY));
        let found = Memory::default().plain(range, 0, window, start);
        assert_eq!((found.replicas, found.why, found.limited), (1, TOO_FEW, true));
    }

    #[test]
    fn policies_limit_the_rate() {
        let now = Instant::now();
        let rules = |select: &str| {
            json!({"selectPolicy": select, "stabilizationWindowSeconds": 0, "policies": [
                {"type": "Pods", "value": 2, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60},
            ]})
        };
        let range = Range { min: 1, max: 100, current: 10 };
        for (up, down, desired, want, why) in [
            ("Max", "Max", 50, 15, UP_LIMIT),
            ("Min", "Max", 50, 12, UP_LIMIT),
            ("Disabled", "Max", 50, 10, UP_LIMIT),
            ("Max", "Max", 1, 5, DOWN_LIMIT),
            ("Max", "Min", 1, 8, DOWN_LIMIT),
            ("Max", "Max", 11, 11, WITHIN),
        ] {
            let behavior = behavior(json!({"scaleUp": rules(up), "scaleDown": rules(down)}));
            let found = Memory::default().with_behavior(&behavior, range, desired, Duration::ZERO, now);
            assert_eq!((found.replicas, found.why), (want, why), "{up} {down} {desired}");
        }
        // What was added in this period counts.
        let behavior = behavior(json!({"scaleUp": rules("Min"), "scaleDown": rules("Max")}));
        let mut memory = Memory::default();
        memory.scaled(Some(&behavior), now, 8, 10);
        assert_eq!(memory.with_behavior(&behavior, range, 50, Duration::ZERO, now).replicas, 10);
    }
}
