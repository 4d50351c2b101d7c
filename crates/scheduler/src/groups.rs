//! Which pods belong to which group (GenericWorkload), and how far each of them is.

use api::Kind;
use api::k8s::core::v1::Pod;
use parking_lot::Mutex;
use rt::HashMap;

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// It counts on a node, but is not bound yet.
    Assumed,
    Assigned,
}

/// The pods of groups by `namespace/name` of the group and uid. Without the gate no pod belongs to a group.
#[derive(Default)]
pub(crate) struct Groups {
    on: bool,
    pods: Mutex<HashMap<String, HashMap<String, Stage>>>,
}

impl Groups {
    pub(crate) fn new(gates: &features::Gates) -> Self {
        Self { on: gates.enabled("GenericWorkload"), pods: Mutex::default() }
    }

    /// Whether there are groups at all.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// The group of a pod.
    pub(crate) fn of(&self, pod: &Pod) -> Option<String> {
        if !self.on {
            return None;
        }
        let name = pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.as_ref()?;
        Some(format!("{}/{name}", pod.namespace()))
    }

    fn set(&self, pod: &Pod, stage: Stage) {
        if let Some(key) = self.of(pod) {
            self.pods.lock().entry(key).or_default().insert(pod.uid().to_owned(), stage);
        }
    }

    /// A pod that is to be scheduled is there.
    pub(crate) fn waiting(&self, pod: &Pod) {
        if let Some(key) = self.of(pod) {
            self.pods.lock().entry(key).or_default().entry(pod.uid().to_owned()).or_insert(Stage::Waiting);
        }
    }

    /// A pod counts on a node.
    pub(crate) fn assumed(&self, pod: &Pod) {
        self.set(pod, Stage::Assumed);
    }

    /// A pod does not count on its node any more, unless it is bound or gone meanwhile.
    pub(crate) fn taken_back(&self, pod: &Pod) {
        let Some(key) = self.of(pod) else { return };
        if let Some(stage) = self.pods.lock().get_mut(&key).and_then(|pods| pods.get_mut(pod.uid()))
            && *stage == Stage::Assumed
        {
            *stage = Stage::Waiting;
        }
    }

    /// A pod is bound.
    pub(crate) fn assigned(&self, pod: &Pod) {
        self.set(pod, Stage::Assigned);
    }

    /// A pod is gone, or has ended.
    pub(crate) fn gone(&self, pod: &Pod) {
        let Some(key) = self.of(pod) else { return };
        let mut groups = self.pods.lock();
        if let Some(pods) = groups.get_mut(&key) {
            pods.remove(pod.uid());
            if pods.is_empty() {
                groups.remove(&key);
            }
        }
    }

    /// How many pods a group has, and how many of them have a node.
    pub(crate) fn count(&self, key: &str) -> (usize, usize) {
        let groups = self.pods.lock();
        let Some(pods) = groups.get(key) else { return (0, 0) };
        (pods.len(), pods.values().filter(|stage| **stage != Stage::Waiting).count())
    }

    fn at(&self, key: &str, stage: Stage) -> Vec<String> {
        let groups = self.pods.lock();
        let pods = groups.get(key).into_iter().flatten().filter(|(_, at)| **at == stage);
        pods.map(|(uid, _)| uid.clone()).collect()
    }

    /// The pods of a group that have no node.
    pub(crate) fn without_node(&self, key: &str) -> Vec<String> {
        self.at(key, Stage::Waiting)
    }

    /// The pods of a group that are being bound, or wait to be.
    pub(crate) fn being_bound(&self, key: &str) -> Vec<String> {
        self.at(key, Stage::Assumed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, group: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "ns", "uid": uid},
            "spec": {"containers": [], "schedulingGroup": group.map(|g| json!({"podGroupName": g}))},
        }))
        .unwrap()
    }

    #[test]
    fn stages() {
        let gates = features::Gates::parse(["GenericWorkload=true"]).unwrap();
        let groups = Groups::new(&gates);
        let (a, b, alone) = (pod("a", Some("g")), pod("b", Some("g")), pod("c", None));
        for one in [&a, &b, &alone] {
            groups.waiting(one);
        }
        assert_eq!(groups.count("ns/g"), (2, 0));
        groups.assumed(&a);
        groups.waiting(&a);
        assert_eq!((groups.count("ns/g"), groups.without_node("ns/g")), ((2, 1), vec!["b".to_owned()]));
        groups.assigned(&a);
        groups.taken_back(&a);
        assert_eq!((groups.count("ns/g"), groups.being_bound("ns/g").len()), ((2, 1), 0));
        groups.gone(&a);
        groups.gone(&b);
        assert_eq!(groups.count("ns/g"), (0, 0));
        let off = Groups::new(&features::Gates::default());
        assert!(off.of(&a).is_none() && !off.is_on());
    }
}
