//! The taints that a node's conditions call for.

use api::k8s::core::v1::{Node, NodeCondition, Taint};
use api::metav1::Time;
use rt::time::Timestamp;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const FROM_CONDITIONS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// The node's taints.
pub(crate) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

/// A condition by type.
pub(crate) fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

/// The taints as they should be, and the one that empties the node, which is in them only when it was there before.
pub(super) fn wanted(node: &Node, now: Timestamp) -> (Vec<Taint>, Option<Taint>) {
    let have = taints(node);
    let is = |kind: &str, status: &str| condition(node, kind).is_some_and(|c| c.status == status);
    let mut keys: Vec<&str> =
        FROM_CONDITIONS.iter().filter(|(kind, status, _)| is(kind, status)).map(|(_, _, key)| *key).collect();
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        keys.push(UNSCHEDULABLE);
    }
    let emptying = keys.iter().find(|key| [NOT_READY, UNREACHABLE].contains(key)).copied();
    let known = |key: &str| key == UNSCHEDULABLE || FROM_CONDITIONS.iter().any(|(_, _, k)| *k == key);
    let stays = |taint: &&Taint| match taint.effect.as_str() {
        "NoSchedule" if known(&taint.key) => keys.contains(&taint.key.as_str()),
        "NoExecute" if [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()) => emptying == Some(&*taint.key),
        _ => true,
    };
    let mut wanted: Vec<Taint> = have.iter().filter(stays).cloned().collect();
    let new = |key: &str, effect: &str| Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        value: None,
        time_added: Some(Time(now)),
    };
    for key in keys {
        if !wanted.iter().any(|t| t.key == key && t.effect == "NoSchedule") {
            wanted.push(new(key, "NoSchedule"));
        }
    }
    // From unreachable to not ready and back needs no new permission.
    let was = have.iter().any(|t| t.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&t.key.as_str()));
    let emptying = emptying.map(|key| new(key, "NoExecute"));
    if let Some(taint) = &emptying
        && was
        && !wanted.iter().any(|t| t.key == taint.key && t.effect == taint.effect)
    {
        wanted.push(taint.clone());
    }
    (wanted, emptying)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: &[(&str, &str)], taints: &[(&str, &str)]) -> Node {
        let mut node = Node::default();
        let list = conditions.iter().map(|(type_, status)| NodeCondition {
            type_: (*type_).to_owned(),
            status: (*status).to_owned(),
            ..NodeCondition::default()
        });
        node.status.get_or_insert_default().conditions = Some(list.collect());
        let list = taints.iter().map(|(key, effect)| Taint {
            key: (*key).to_owned(),
            effect: (*effect).to_owned(),
            ..Taint::default()
        });
        node.spec.get_or_insert_default().taints = Some(list.collect());
        node
    }

    #[test]
    fn conditions_become_taints() {
        let cases: [(&[(&str, &str)], &[(&str, &str)], &[(&str, &str)], Option<&str>); 4] = [
            (&[("Ready", "True")], &[(NOT_READY, "NoSchedule"), ("own", "NoSchedule")], &[("own", "NoSchedule")], None),
            (&[("Ready", "False")], &[], &[(NOT_READY, "NoSchedule")], Some(NOT_READY)),
            (
                &[("Ready", "Unknown")],
                &[(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
                &[(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
                Some(UNREACHABLE),
            ),
            (
                &[("Ready", "True"), ("DiskPressure", "True")],
                &[],
                &[("node.kubernetes.io/disk-pressure", "NoSchedule")],
                None,
            ),
        ];
        for (conditions, have, want, emptying) in cases {
            let (taints, found) = wanted(&node(conditions, have), Timestamp::UNIX_EPOCH);
            let names: Vec<_> = taints.iter().map(|t| (t.key.as_str(), t.effect.as_str())).collect();
            assert_eq!(names, want);
            assert_eq!(found.map(|t| t.key).as_deref(), emptying);
        }
    }
}
