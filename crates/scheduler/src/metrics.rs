//! Metrics, by upstream's names.

use std::sync::LazyLock;

use telemetry::metrics::{CounterVec, GaugeVec, HistogramVec, counter_vec, gauge_vec, histogram_vec};

const SECONDS: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

pub(crate) static ATTEMPTS: LazyLock<CounterVec> = LazyLock::new(|| {
    let help = "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.";
    counter_vec("scheduler_schedule_attempts_total", help, &["profile", "result"])
});

pub(crate) static ATTEMPT_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "Scheduling attempt latency in seconds (scheduling algorithm + binding)";
    histogram_vec("scheduler_scheduling_attempt_duration_seconds", help, &["profile", "result"], SECONDS)
});

pub(crate) static ALGORITHM_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "Scheduling algorithm latency in seconds";
    histogram_vec("scheduler_scheduling_algorithm_duration_seconds", help, &[], SECONDS)
});

pub(crate) static POD_ATTEMPTS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "Number of attempts to successfully schedule a pod.";
    histogram_vec("scheduler_pod_scheduling_attempts", help, &[], &[1.0, 2.0, 4.0, 8.0, 16.0])
});

pub(crate) static PENDING: LazyLock<GaugeVec> = LazyLock::new(|| {
    let help = "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated.";
    gauge_vec("scheduler_pending_pods", help, &["queue"])
});

pub(crate) static PREEMPTION_ATTEMPTS: LazyLock<CounterVec> = LazyLock::new(|| {
    counter_vec("scheduler_preemption_attempts_total", "Total preemption attempts in the cluster till now", &[])
});

pub(crate) static PREEMPTION_VICTIMS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let bounds = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
    histogram_vec("scheduler_preemption_victims", "Number of selected preemption victims", &[], bounds)
});

pub(crate) static POD_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.";
    histogram_vec("scheduler_pod_scheduling_sli_duration_seconds", help, &["attempts"], SECONDS)
});

pub(crate) static CACHE_SIZE: LazyLock<GaugeVec> = LazyLock::new(|| {
    let help = "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.";
    gauge_vec("scheduler_cache_size", help, &["type"])
});
