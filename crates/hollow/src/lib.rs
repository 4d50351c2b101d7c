//! Kubelets without containers: real API traffic, no machine.
//!
//! A [`Fleet`] registers any number of nodes, renews their leases, posts their status, and takes the pods that are bound to them
//! through their life: started after a delay, ended or run again as their restart policy says, terminated within their grace
//! period. All nodes share one watch of pods and one of nodes, so that thousands fit in one process. What a pod does is asked
//! of a [`Behaviour`]. Nodes can be switched off and on again ([`Fleet::power_off`], [`Fleet::power_on`]), as machines are.

mod fleet;
mod node;
mod plan;
mod status;

use std::time::Duration;

use api::prelude::Pod;

pub use fleet::Fleet;

/// A node that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Labels beside host name, operating system and architecture.
    pub labels: Vec<(String, String)>,
    /// Capacity, all of it allocatable: resource and quantity.
    pub capacity: Vec<(String, String)>,
}

impl NodeSpec {
    /// A node of kwok's size: 32 processors, 256 GiB, 110 pods.
    pub fn new(name: impl Into<String>) -> Self {
        let capacity = [("cpu", "32"), ("memory", "256Gi"), ("ephemeral-storage", "1Ti"), ("pods", "110")];
        let capacity = capacity.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        Self { name: name.into(), labels: Vec::new(), capacity }
    }

    /// The same with other capacities.
    #[must_use]
    pub fn with_capacity(mut self, capacity: &[(&str, &str)]) -> Self {
        self.capacity = capacity.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self
    }

    /// The same with one more label.
    #[must_use]
    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// How often a fleet speaks, and with how many requests at a time. The default is the kubelet's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// Between renewals of a node's lease, and between looks at whether its status has to be posted.
    pub heartbeat: Duration,
    /// Life of a node's lease.
    pub lease: Duration,
    /// Between posts of a status that did not change.
    pub report: Duration,
    /// Requests about nodes, and as many about pods, that are made at a time.
    pub workers: usize,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            lease: Duration::from_secs(40),
            report: Duration::from_secs(300),
            workers: 16,
        }
    }
}

/// How long containers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Until they are told to stop.
    Endless,
    /// Until they exit by themselves.
    Exits {
        /// After this time.
        after: Duration,
        /// With this code.
        code: i32,
    },
}

/// What pods do on hollow nodes. Asked once per start of a pod's containers.
pub trait Behaviour: Send + Sync + 'static {
    /// How long the pod's containers take to start.
    fn start_delay(&self, pod: &Pod) -> Duration;
    /// How long they run.
    fn life(&self, pod: &Pod) -> Life;
    /// How long they take to stop when told to, and the exit code then. More than the grace period is cut to it.
    fn stop(&self, pod: &Pod) -> (Duration, i32);
}

/// The same for all pods; those that are not to be restarted forever end with success after a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// How long containers take to start.
    pub start: Duration,
    /// How long containers of pods whose restart policy is not `Always` run.
    pub run: Duration,
    /// How long containers take to stop.
    pub stop: Duration,
}

impl Default for Fixed {
    fn default() -> Self {
        Self { start: Duration::from_secs(1), run: Duration::from_secs(1), stop: Duration::ZERO }
    }
}

impl Behaviour for Fixed {
    fn start_delay(&self, _: &Pod) -> Duration {
        self.start
    }

    fn life(&self, pod: &Pod) -> Life {
        if plan::restart_policy(pod) == "Always" {
            return Life::Endless;
        }
        Life::Exits { after: self.run, code: 0 }
    }

    fn stop(&self, _: &Pod) -> (Duration, i32) {
        (self.stop, 0)
    }
}
