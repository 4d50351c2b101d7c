//! How long a Job waits before it replaces failed pods.

use std::sync::Arc;
use std::time::Duration;

use api::k8s::core::v1::Pod;
use rt::time::Timestamp;

use crate::pods;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(600);

/// When a pod ended, by its containers, else its readiness, its deletion, its creation.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let times: Option<Vec<Timestamp>> =
        statuses.iter().map(|s| s.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|t| t.0)).collect();
    if let Some(last) = times.and_then(|times| times.into_iter().max()) {
        return last;
    }
    let unready = pods::condition(pod, "Ready").filter(|c| c.status == "False");
    if let Some(time) = unready.and_then(|c| c.last_transition_time.as_ref()) {
        return time.0;
    }
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|t| {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        t.0.checked_sub(jiff::SignedDuration::from_secs(grace)).unwrap_or(t.0)
    });
    deleted.or(pod.metadata.creation_timestamp.as_ref().map(|t| t.0)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Failures since the last success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    failures: u32,
    last: Option<Timestamp>,
}

impl Record {
    /// The record with pods that ended since.
    pub(super) fn with(&self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let mut times: Vec<Timestamp> = failed.iter().map(|p| finished_at(p)).collect();
        let mut record = self.clone();
        if let Some(success) = succeeded.iter().map(|p| finished_at(p)).max() {
            record = Self::default();
            times.retain(|t| *t > success);
        }
        record.failures += u32::try_from(times.len()).unwrap_or(u32::MAX);
        record.last = times.into_iter().max().or(record.last);
        record
    }

    /// How long to wait now.
    pub(super) fn wait(&self, now: Timestamp) -> Duration {
        self.last.map_or(Duration::ZERO, |last| wait(self.failures, last, now))
    }
}

/// How long to wait after so many failures, the last of them at a time.
pub(super) fn wait(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let factor = 1u32 << (failures - 1).min(10);
    (FIRST * factor).min(MOST).saturating_sub(rt::time::between(last, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_until_the_most() {
        let at = Timestamp::UNIX_EPOCH;
        for (failures, want) in [(0, 0), (1, 10), (2, 20), (4, 80), (9, 600), (99, 600)] {
            assert_eq!(wait(failures, at, at), Duration::from_secs(want));
        }
    }
}
