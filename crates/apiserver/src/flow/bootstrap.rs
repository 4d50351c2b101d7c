//! The objects that every cluster has: facts of upstream's bootstrap configuration.

use meta::Object;
use serde_json::{Value, json};

use super::config::{LevelConfig, Schema};

const GROUP: &str = "flowcontrol.apiserver.k8s.io/v1";
/// The annotation that says that the server may keep the object's spec as this release has it.
pub(super) const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Objects without which requests would have no level: they are made again whenever they are gone.
pub(super) const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// Level, shares, lendable percent, (queues, hand).
const LEVELS: [(&str, u32, u32, Option<(u32, u32)>); 7] = [
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6))),
    ("node-high", 40, 25, Some((64, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
    ("global-default", 20, 50, Some((128, 6))),
];

fn object(kind: &str, name: &str, spec: Value) -> Object {
    let tree = json!({
        "apiVersion": GROUP, "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    });
    Object::from_value(tree).unwrap_or_default()
}

/// The priority levels.
pub(super) fn levels() -> Vec<Object> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let limited = LEVELS.iter().map(|(name, shares, lendable, queues)| {
        let response = match queues {
            None => json!({"type": "Reject"}),
            Some((queues, hand)) => json!({
                "type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50},
            }),
        };
        let limited = json!({
            "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response,
        });
        object("PriorityLevelConfiguration", name, json!({"type": "Limited", "limited": limited}))
    });
    std::iter::once(object("PriorityLevelConfiguration", "exempt", exempt)).chain(limited).collect()
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn system_accounts() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}})
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn rules(subjects: Vec<Value>, resource_rules: Vec<Value>, paths: Option<(&str, &[&str])>) -> Value {
    let mut rule = json!({"subjects": subjects});
    if !resource_rules.is_empty() {
        rule["resourceRules"] = resource_rules.into();
    }
    if let Some((verb, urls)) = paths {
        rule["nonResourceRules"] = json!([{"verbs": [verb], "nonResourceURLs": urls}]);
    }
    json!([rule])
}

fn everything(subjects: Vec<Value>) -> Value {
    rules(subjects, vec![resources(&["*"], "*", &["*"], true)], Some(("*", &["*"])))
}

/// The FlowSchemas.
pub(super) fn schemas() -> Vec<Object> {
    const ANYBODY: [&str; 2] = ["system:unauthenticated", "system:authenticated"];
    const MANAGER: &str = "system:kube-controller-manager";
    const SCHEDULER: &str = "system:kube-scheduler";
    let leases = |verbs: &[&str]| resources(verbs, "coordination.k8s.io", &["leases"], false);
    let mut electors = users(&[MANAGER, SCHEDULER]);
    electors.push(system_accounts());
    let nodes = vec![resources(&["*"], "", &["nodes", "nodes/status"], true), leases(&["*"])];
    let probes: &[&str] = &["/healthz", "/readyz", "/livez"];
    let all = [
        ("exempt", "exempt", 1, "", everything(groups(&["system:masters"]))),
        ("probes", "exempt", 2, "", rules(groups(&ANYBODY), Vec::new(), Some(("get", probes)))),
        (
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            rules(electors, vec![leases(&["get", "create", "update"])], None),
        ),
        ("system-node-high", "node-high", 400, "ByUser", rules(groups(&["system:nodes"]), nodes, None)),
        ("system-nodes", "system", 500, "ByUser", everything(groups(&["system:nodes"]))),
        ("kube-controller-manager", "workload-high", 800, "ByNamespace", everything(users(&[MANAGER]))),
        ("kube-scheduler", "workload-high", 800, "ByNamespace", everything(users(&[SCHEDULER]))),
        ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", everything(vec![system_accounts()])),
        ("service-accounts", "workload-low", 9000, "ByUser", everything(groups(&["system:serviceaccounts"]))),
        ("global-default", "global-default", 9900, "ByUser", everything(groups(&ANYBODY))),
        ("catch-all", "catch-all", 10000, "ByUser", everything(groups(&ANYBODY))),
    ];
    all.into_iter()
        .map(|(name, level, precedence, distinguisher, rules)| {
            let mut spec = json!({
                "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": rules,
            });
            if !distinguisher.is_empty() {
                spec["distinguisherMethod"] = json!({"type": distinguisher});
            }
            object("FlowSchema", name, spec)
        })
        .collect()
}

/// Both, as configuration.
pub(super) fn parsed() -> (Vec<Schema>, Vec<LevelConfig>) {
    (schemas().iter().map(Schema::parse).collect(), levels().iter().map(LevelConfig::parse).collect())
}
