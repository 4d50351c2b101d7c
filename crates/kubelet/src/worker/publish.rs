//! Telling the pod's status.

use super::{Stage, Worker};
use crate::k8s::PodStatus;
use crate::pod::status::{self, Inputs};

impl Worker {
    pub(super) fn publish(&mut self) {
        if self.stage == Stage::Removing || self.dirty {
            return;
        }
        let terminal = self.stage == Stage::Terminated;
        let told = self.shared.statuses.get(&self.handle.uid);
        let from_api = self.pod.status.clone().unwrap_or_default();
        let old: &PodStatus = told.as_deref().unwrap_or(&from_api);
        let host_ips = self.shared.host_ips.read().clone();
        let inputs = Inputs {
            pod: &self.pod,
            observed: &self.observed,
            old,
            waiting: &self.waiting,
            probes: &*self.shared.probes,
            terminal,
            verdict: self.verdict.as_ref(),
            host_ips: &host_ips,
            runtime_name: &self.shared.runtime_name,
            now: rt::time::now(),
        };
        let mut status = status::generate(&inputs);
        if terminal {
            status = status::finish(status);
        }
        if self.stage == Stage::Active {
            let mut conditions = self.resize.conditions(self.pod.metadata.generation);
            crate::pod::conditions::keep_times(&mut conditions, old, &crate::k8s::seconds(rt::time::now()));
            status.conditions.get_or_insert_default().extend(conditions);
        }
        let target = self.shared.target(&self.pod);
        self.shared.statuses.set(&self.pod, target, status);
    }
}
