//! What becomes of a pod that was not scheduled: back into the queue, an event, a condition.

use std::sync::Arc;

use api::Kind;
use api::metav1::Time;
use client::PatchKind;
use informer::EventType;
use rt::time::Instant;
use serde_json::{Value, json};

use crate::cycle::Undecided;
use crate::fit_error::Failure;
use crate::metrics;
use crate::pod_info::PodInfo;
use crate::queue::Queued;
use crate::scheduler::{Active, Scheduler};

/// Longest text of an event.
const NOTE_LIMIT: usize = 1024;

fn truncated(message: &str) -> String {
    if message.len() <= NOTE_LIMIT {
        return message.to_owned();
    }
    let mut end = NOTE_LIMIT - 4;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ...", &message[..end])
}

impl Scheduler {
    /// Puts a pod back; the future tells its user why. None when the pod is gone, or bound by somebody else.
    pub(crate) fn give_back(
        self: &Arc<Self>,
        active: &Arc<Active>,
        pod: Queued,
        undecided: Undecided,
        begun: Instant,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let Undecided { failure, nominate } = undecided;
        let result = if matches!(failure, Failure::Error(_)) { "error" } else { "unschedulable" };
        metrics::ATTEMPTS.with(&[&active.profile.name, result]).add(1);
        metrics::ATTEMPT_SECONDS.with(&[&active.profile.name, result]).observe(begun.elapsed().as_secs_f64());
        let Some(current) = self.current(&pod.info) else {
            self.queue.done(&pod.info.uid);
            self.nominator.remove(&pod.info.uid);
            return None;
        };
        let info = Arc::new(PodInfo::new(current));
        if let Some(node) = &nominate {
            self.nominator.nominate(&info, node);
        }
        let mut back = pod;
        back.info = info.clone();
        // Not to be tried again before its status is written, lest an older state overwrites a newer one.
        self.queue.hold(&info.uid);
        // Groups are tried again by time: what helps one pod may not help all.
        let rejected_by = if self.groups.of(&info.pod).is_some() { 0 } else { failure.rejected_by() };
        self.queue.reject(back, rejected_by, &|pod, by, event| self.helps(pod, by, event));
        let message = failure.message();
        match &failure {
            Failure::Error(_) => tracing::warn!(pod = info.key, error = message, "error scheduling pod, retrying"),
            _ => tracing::debug!(pod = info.key, why = message, "pod does not fit"),
        }
        active.recorder.event(&*info.pod, EventType::Warning, "FailedScheduling", truncated(&message));
        let this = self.clone();
        Some(async move {
            this.write_status(&info, Some((failure.reason(), &message)), nominate.as_deref()).await;
            this.queue.release(&info.uid, false);
        })
    }

    /// Writes the `PodScheduled` condition and the nomination, unless the pod says so already.
    pub(crate) async fn write_status(&self, info: &PodInfo, said: Option<(&str, &str)>, nominate: Option<&str>) {
        let mut status = serde_json::Map::new();
        if let Some((reason, message)) = said
            && let Some(condition) = condition(info, reason, message)
        {
            status.insert("conditions".to_owned(), json!([condition]));
        }
        if let Some(node) = nominate.filter(|node| *node != info.nominated()) {
            status.insert("nominatedNodeName".to_owned(), if node.is_empty() { Value::Null } else { node.into() });
        }
        if status.is_empty() {
            return;
        }
        let patch = json!({"metadata": {"uid": info.uid}, "status": status});
        let (namespace, name) = (info.pod.namespace(), info.pod.name());
        let written = self.client.patch_status::<api::prelude::Pod>(namespace, name, &PatchKind::Strategic, &patch);
        if let Err(error) = written.await
            && !error.is_not_found()
        {
            tracing::warn!(pod = info.key, error = error.chain(), "cannot write the pod's status");
        }
    }
}

/// The condition to write; none when the pod has it.
fn condition(info: &PodInfo, reason: &str, message: &str) -> Option<Value> {
    let conditions = info.pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let before = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if before.is_some_and(|c| c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message)) {
        return None;
    }
    let since = before.and_then(|c| c.last_transition_time.clone()).unwrap_or_else(|| Time(rt::time::now()));
    Some(json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "observedGeneration": info.pod.metadata.generation,
        "lastTransitionTime": since,
    }))
}
