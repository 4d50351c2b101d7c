//! Histograms of Prometheus' text form.

use std::collections::BTreeMap;

/// Counts up to each bound, over all labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Histogram(BTreeMap<u64, f64>);

/// Bounds are ordered as their bits are: none is negative.
fn bits(bound: &str) -> Option<u64> {
    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
    Some(bound.to_bits())
}

impl Histogram {
    /// Reads a histogram by its name.
    pub(crate) fn read(text: &str, name: &str) -> Self {
        let mut histogram = Self::default();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix("_bucket{")) else { continue };
            let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
            // Not just `le="`: `profile="` ends so, too.
            let bound =
                labels.split(',').find_map(|label| label.strip_prefix("le=\"")).map(|b| b.trim_end_matches('"'));
            let bound = bound.and_then(bits);
            if let (Some(bound), Ok(value)) = (bound, value.trim().parse::<f64>()) {
                *histogram.0.entry(bound).or_default() += value;
            }
        }
        histogram
    }

    /// What came since an earlier state.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let less = |(bound, count): (&u64, &f64)| (*bound, count - before.0.get(bound).copied().unwrap_or(0.0));
        Self(self.0.iter().map(less).collect())
    }

    /// The value below which this share lies, as Prometheus' `histogram_quantile` guesses it: evenly within a bucket.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let total = *self.0.values().next_back()?;
        if total <= 0.0 {
            return None;
        }
        let wanted = share * total;
        let (mut below, mut low) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            let high = f64::from_bits(*bound);
            if *count >= wanted {
                let part = if *count > below { (wanted - below) / (count - below) } else { 1.0 };
                return Some(if high.is_finite() { low + (high - low) * part } else { low });
            }
            (below, low) = (*count, high);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn quantiles_between_bounds() {
        let text = "x_bucket{profile=\"1\",le=\"0.1\"} 5\nx_bucket{a=\"2\",le=\"0.1\"} 5\nx_bucket{a=\"1\",le=\"0.2\"} 15\n\
            x_bucket{a=\"2\",le=\"0.2\"} 5\nx_bucket{le=\"+Inf\"} 20\nx_sum 3\nxy_bucket{le=\"0.1\"} 7\n";
        let histogram = Histogram::read(text, "x");
        assert_eq!(histogram.quantile(0.25), Some(0.05));
        assert!((histogram.quantile(0.75).unwrap() - 0.15).abs() < 1e-9);
        assert_eq!(histogram.since(&histogram).quantile(0.5), None);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
