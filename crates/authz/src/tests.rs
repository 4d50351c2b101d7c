//! RBAC, escalation, the Node authorizer and the bootstrap policy against fixed objects.

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Attributes, Authorizer, Decision, Lookup, ObjectEvent, UserInfo};
use futures::stream::{self, BoxStream, StreamExt};
use meta::{GroupVersionResource, Object, Status};
use serde_json::{Value, json};

use super::*;
use crate::bootstrap::{Write, plan};

struct Fixed(Vec<(&'static str, Arc<Object>)>);

#[async_trait]
impl Lookup for Fixed {
    async fn get(&self, _r: &GroupVersionResource, _ns: &str, _name: &str) -> Result<Option<Arc<Object>>, Status> {
        Ok(None)
    }
    async fn get_live(&self, _r: &GroupVersionResource, _ns: &str, _name: &str) -> Result<Option<Arc<Object>>, Status> {
        Ok(None)
    }
    async fn list(&self, _r: &GroupVersionResource, _ns: &str) -> Result<Vec<Arc<Object>>, Status> {
        Ok(Vec::new())
    }
    fn watch(&self, r: &GroupVersionResource) -> BoxStream<'static, ObjectEvent> {
        let all = self.0.iter().filter(|(kind, _)| *kind == r.resource).map(|(_, o)| o.clone()).collect();
        stream::iter([ObjectEvent::Replace(all)]).chain(stream::pending()).boxed()
    }
}

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).unwrap())
}

fn request(user: UserInfo, line: &str) -> Attributes {
    let mut words = line.split(' ');
    let mut next = || words.next().unwrap_or_default().trim_matches('-').to_owned();
    let (verb, group, resource, namespace, name) = (next(), next(), next(), next(), next());
    let (resource, subresource) = match resource.split_once('/') {
        Some((r, s)) => (r.to_owned(), s.to_owned()),
        None => (resource, String::new()),
    };
    Attributes {
        user,
        verb,
        api_group: group,
        resource,
        subresource,
        namespace,
        name,
        resource_request: true,
        ..Attributes::default()
    }
}

fn policy() -> Vec<(&'static str, Arc<Object>)> {
    let subject = |kind: &str, name: &str| json!([{"kind": kind, "name": name, "namespace": "ns"}]);
    let binding = |ns: &str, name: &str, kind: &str, role: &str, subjects: Value| {
        object(
            json!({"metadata": {"namespace": ns, "name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": subjects}),
        )
    };
    vec![
        (
            "clusterroles",
            object(json!({"metadata": {"name": "viewer"}, "rules": [
            {"apiGroups": [""], "resources": ["pods", "*/scale"], "verbs": ["get", "list"]},
            {"nonResourceURLs": ["/logs/*"], "verbs": ["get"]}]})),
        ),
        (
            "roles",
            object(json!({"metadata": {"namespace": "ns", "name": "one"}, "rules": [
            {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["*"]}]})),
        ),
        ("clusterrolebindings", binding("", "viewers", "ClusterRole", "viewer", subject("Group", "dev"))),
        ("clusterrolebindings", binding("", "broken", "ClusterRole", "gone", subject("User", "eve"))),
        ("rolebindings", binding("ns", "robots", "Role", "one", subject("ServiceAccount", "robot"))),
    ]
}

#[tokio::test]
async fn rbac_decides() {
    let lookup: Arc<dyn Lookup> = Arc::new(Fixed(policy()));
    let rbac = Arc::new(RbacAuthorizer::start(&lookup, &rt::Shutdown::new()));
    rbac.synced().await;
    let dev = || UserInfo::new("jane", &["dev"]);
    let robot = || UserInfo::service_account("ns", "robot");
    for (user, line, allowed) in [
        (dev(), "get - pods x p", true),
        (dev(), "get - pods/log x p", false),
        (dev(), "delete - pods x p", false),
        (dev(), "get apps deployments/scale x p", false),
        (dev(), "get - replicationcontrollers/scale x p", true),
        (robot(), "patch apps deployments ns web", true),
        (robot(), "patch apps deployments ns other", false),
        (robot(), "patch apps deployments other web", false),
        (robot(), "list apps deployments ns", false),
    ] {
        let (decision, reason) = rbac.authorize(&request(user, line)).await.unwrap();
        assert_eq!(decision == Decision::Allow, allowed, "{line}: {reason}");
    }
    let (_, reason) = rbac.authorize(&request(robot(), "get apps deployments ns web")).await.unwrap();
    assert_eq!(reason, "RBAC: allowed by RoleBinding \"robots/ns\" of Role \"one\" to ServiceAccount \"robot/ns\"");
    let (_, reason) = rbac.authorize(&request(UserInfo::new("eve", &[]), "get - pods x p")).await.unwrap();
    assert_eq!(reason, "RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found");
    let path = Attributes { user: dev(), verb: "get".into(), path: "/logs/x".into(), ..Attributes::default() };
    assert_eq!(rbac.authorize(&path).await.unwrap().0, Decision::Allow);
    let rules = rbac.rules_for(&dev(), "ns").await;
    assert_eq!((rules.resource_rules.len(), rules.non_resource_rules.len()), (1, 1));

    let escalation = rbac::Escalation::new(rbac.clone(), rbac.clone());
    let role = object(json!({"metadata": {"name": "more"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete", "watch"]}]}));
    let user = dev();
    let write = rbac::Write { user: &user, resource: "clusterroles", namespace: "", object: &role, old: None };
    let error = escalation.check(&write).await.unwrap_err();
    assert_eq!(
        error.message,
        "clusterroles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"dev\" \
         \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}"
    );
    let same = object(json!({"metadata": {"name": "v"}, "roleRef": {"kind": "ClusterRole", "name": "viewer"}}));
    let write = rbac::Write { resource: "clusterrolebindings", object: &same, ..write };
    escalation.check(&write).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nodes_read_what_their_pods_need() {
    let pod = object(json!({"metadata": {"namespace": "ns", "name": "p", "uid": "1"}, "spec": {
        "nodeName": "n1", "serviceAccountName": "robot",
        "containers": [{"envFrom": [{"secretRef": {"name": "env"}}]}],
        "volumes": [{"name": "a", "secret": {"secretName": "vol"}}, {"name": "b", "projected": {"sources": [{"configMap": {"name": "cm"}}]}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}}]}}));
    let volume = object(json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "ns", "name": "claim"},
        "csi": {"nodeStageSecretRef": {"namespace": "storage", "name": "stage"}}}}));
    let lookup: Arc<dyn Lookup> = Arc::new(Fixed(vec![("pods", pod), ("persistentvolumes", volume)]));
    let node = NodeAuthorizer::start(&lookup, &rt::Shutdown::new());
    node.synced().await;
    for (line, on_first, on_second) in [
        ("get - secrets ns env", true, false),
        ("watch - secrets ns vol", true, false),
        ("get - secrets storage stage", true, false),
        ("list - secrets ns", false, false),
        ("get - configmaps ns cm", true, false),
        ("get - persistentvolumes - pv", true, false),
        ("get - persistentvolumeclaims ns claim", true, false),
        ("create - serviceaccounts/token ns robot", true, false),
        ("create - serviceaccounts/token ns default", false, false),
        ("get - pods ns p", true, false),
        ("get - nodes - n1", true, false),
        ("list - nodes", false, false),
        ("update coordination.k8s.io leases kube-node-lease n1", true, false),
        ("update coordination.k8s.io leases ns n1", false, false),
        ("patch - nodes/status - n2", true, true),
        ("list - services", true, true),
        ("create - events ns", true, true),
        ("delete - namespaces - ns", false, false),
    ] {
        for (name, allowed) in [("n1", on_first), ("n2", on_second)] {
            let (decision, reason) = node.authorize(&request(UserInfo::node(name), line)).await.unwrap();
            assert_eq!(decision == Decision::Allow, allowed, "{name} {line}: {reason}");
        }
    }
    let mut list = request(UserInfo::node("n1"), "list - pods");
    list.field_selector = Some(meta::selector::FieldSelector::equal("spec.nodeName", "n1"));
    assert_eq!(node.authorize(&list).await.unwrap().0, Decision::Allow);
}

#[test]
fn bootstrap_policy_is_planned() {
    let want = || {
        Object::clone(&object(json!({"metadata": {"name": "r", "labels": {"l": "1"}}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]})))
    };
    assert!(matches!(plan("clusterroles", None, want()), Some(Write::Create(_))));
    assert_eq!(plan("clusterroles", Some(&want()), want()), None);
    let mut wider = want();
    wider.set(&["rules"], json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]));
    assert_eq!(plan("clusterroles", Some(&wider), want()), None, "more rights are left alone");
    let mut narrow = want();
    narrow.set(&["rules"], json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]));
    let Some(Write::Update(completed)) = plan("clusterroles", Some(&narrow), want()) else { panic!("no update") };
    assert_eq!(completed.get(&["rules"]).unwrap()[1]["verbs"], json!(["list"]));
    narrow.set_annotation("rbac.authorization.kubernetes.io/autoupdate", "false");
    assert_eq!(plan("clusterroles", Some(&narrow), want()), None, "protected");
    assert!(!bootstrap::node_rules().is_empty());
}
