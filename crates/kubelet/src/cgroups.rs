//! The cgroups above containers: `kubepods`, one per quality-of-service class, one per pod. The runtime makes those of
//! containers below them.

use std::collections::BTreeMap;
use std::sync::Arc;

use node_api::LinuxResources;
use parking_lot::Mutex;
use sys::cgroup::{Hierarchies, Resources};

use crate::k8s::Pod;
use crate::pod::qos;
use crate::spec::resources;

/// See the module. Without rights to cgroups it does nothing, after a word in the log.
pub struct Cgroups {
    hierarchies: Option<Hierarchies>,
    root: String,
    burstable: Mutex<i64>,
}

fn settings(limits: &LinuxResources) -> Resources {
    let positive = |v: i64| (v > 0).then_some(v);
    Resources {
        cpu_shares: u64::try_from(limits.cpu_shares).ok().filter(|s| *s > 0),
        cpu_quota: positive(limits.cpu_quota),
        cpu_period: u64::try_from(limits.cpu_period).ok().filter(|p| *p > 0),
        memory_limit: positive(limits.memory_limit_bytes),
        ..Resources::default()
    }
}

impl Cgroups {
    /// Makes the groups of the classes below `root`; `manage` off does nothing.
    #[must_use]
    pub fn open(root: &str, manage: bool) -> Arc<Self> {
        let root = root.trim_end_matches('/').to_owned();
        let mut this = Self { hierarchies: None, root, burstable: Mutex::new(0) };
        if !manage {
            return Arc::new(this);
        }
        let made = Hierarchies::detect().and_then(|hierarchies| {
            for class in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
                hierarchies.group(format!("{}/{class}", this.root)).create()?;
            }
            // What asks for nothing gets what is left.
            let least = Resources { cpu_shares: Some(2), ..Resources::default() };
            hierarchies.group(format!("{}/kubepods/besteffort", this.root)).set(&least)?;
            Ok(hierarchies)
        });
        match made {
            Ok(hierarchies) => this.hierarchies = Some(hierarchies),
            Err(error) => tracing::warn!(error = error.line(), "pods run without cgroups of their classes"),
        }
        Arc::new(this)
    }

    /// Makes a pod's group with its limits. Blocks.
    ///
    /// # Errors
    /// The kernel's, as text.
    pub fn make(&self, pod: &Pod, uid: &str) -> Result<(), String> {
        let Some(hierarchies) = &self.hierarchies else { return Ok(()) };
        let group = hierarchies.group(resources::cgroup_parent(&self.root, pod, uid));
        group.create().and_then(|()| group.set(&settings(&resources::pod(pod)))).map_err(|e| e.line())
    }

    /// Gives a pod's group other limits. Blocks.
    ///
    /// # Errors
    /// The kernel's, as text.
    pub fn set(&self, pod: &Pod, uid: &str, limits: &LinuxResources) -> Result<(), String> {
        let Some(hierarchies) = &self.hierarchies else { return Ok(()) };
        let group = hierarchies.group(resources::cgroup_parent(&self.root, pod, uid));
        group.set(&settings(limits)).map_err(|e| e.line())
    }

    /// Removes a pod's group. Blocks.
    pub fn remove(&self, pod: &Pod, uid: &str) {
        let Some(hierarchies) = &self.hierarchies else { return };
        let group = hierarchies.group(resources::cgroup_parent(&self.root, pod, uid));
        if group.exists()
            && let Err(error) = group.remove()
        {
            tracing::warn!(uid, error = error.line(), "cannot remove a pod's cgroup");
        }
    }

    /// Removes the group of a pod of which only the uid is known. Blocks.
    pub fn remove_orphan(&self, uid: &str) {
        let Some(hierarchies) = &self.hierarchies else { return };
        for class in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            let group = hierarchies.group(format!("{}/{class}/pod{uid}", self.root));
            if group.exists() {
                // What cannot be removed now is tried again by the next kubelet.
                let _ = group.remove();
            }
        }
    }

    /// Gives the burstable class the shares its pods ask for together.
    pub fn share(&self, pods: &BTreeMap<String, Arc<Pod>>) {
        let Some(hierarchies) = &self.hierarchies else { return };
        let burstable = pods.values().filter(|p| qos::class(p) == "Burstable");
        let milli: i64 = burstable.map(|p| resources::pod_total(p, "cpu", false).unwrap_or(0)).sum();
        let shares = resources::shares(milli);
        if std::mem::replace(&mut *self.burstable.lock(), shares) == shares {
            return;
        }
        let wanted = Resources { cpu_shares: u64::try_from(shares).ok(), ..Resources::default() };
        if let Err(error) = hierarchies.group(format!("{}/kubepods/burstable", self.root)).set(&wanted) {
            tracing::warn!(error = error.line(), "cannot set the shares of burstable pods");
        }
    }
}
