//! The policy's rules, and the log.

use auth_api::{Attributes, UserInfo};
use clap::Parser;

use super::policy::{Level, Policy};
use super::*;

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch]}
- {level: RequestResponse, resources: [{group: "", resources: [pods, "configmaps/*", "*/status"]}], omitManagedFields: true}
- {level: Request, namespaces: [kube-system], resources: [{group: apps}], omitStages: [Panic]}
- {level: Metadata, nonResourceURLs: ["/healthz*", "/version"]}
- {level: Metadata, userGroups: [dev], resources: [{group: "*", resources: [secrets], resourceNames: [key]}]}
"#;

fn ask(user: UserInfo, verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        user,
        verb: verb.into(),
        api_group: group.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        resource_request: true,
        ..Attributes::default()
    }
}

#[test]
fn the_first_matching_rule_decides() {
    let policy = Policy::parse(POLICY).expect("a policy");
    let user = |name: &str| UserInfo::new(name, &["dev"]);
    for (attributes, level) in [
        (ask(user("system:kube-proxy"), "watch", "", "pods", "", ""), Level::None),
        (ask(user("u"), "watch", "", "pods", "", ""), Level::RequestResponse),
        (ask(user("u"), "get", "", "pods/log", "", ""), Level::None),
        (ask(user("u"), "get", "", "nodes/status", "", ""), Level::RequestResponse),
        (ask(user("u"), "get", "", "configmaps/x", "", ""), Level::RequestResponse),
        (ask(user("u"), "get", "apps", "deployments", "kube-system", ""), Level::Request),
        (ask(user("u"), "get", "apps", "deployments", "default", ""), Level::None),
        (ask(user("u"), "get", "", "secrets", "default", "key"), Level::Metadata),
        (ask(user("u"), "get", "", "secrets", "default", "other"), Level::None),
        (Attributes { path: "/healthz/etcd".into(), ..Attributes::default() }, Level::Metadata),
        (Attributes { path: "/version/x".into(), ..Attributes::default() }, Level::None),
    ] {
        assert_eq!(policy.evaluate(&attributes).level, level, "{attributes:?}");
    }
    let wanted = policy.evaluate(&ask(user("u"), "get", "apps", "deployments", "kube-system", ""));
    assert_eq!(wanted.omit_stages, [Stage::RequestReceived, Stage::Panic]);
    assert!(!wanted.omit_managed_fields);
}

#[test]
fn bad_policies_are_refused() {
    for (rules, wanted) in [
        ("[]", "0 rules"),
        ("[{users: [a]}]", "rules[0].level: Required value"),
        ("[{level: All}]", "unknown variant"),
        ("[{level: None, nonResourceURLs: [a]}]", "must begin with a '/'"),
        ("[{level: None, nonResourceURLs: ['/a/*/b']}]", "must be the final character"),
        ("[{level: None, nonResourceURLs: ['/a'], namespaces: [b]}]", "both regular resources"),
        ("[{level: None, resources: [{resourceNames: [b]}]}]", "at least one resource"),
        ("[{level: None, what: 1}]", "unknown field"),
    ] {
        let error = Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}")).err();
        let error = error.unwrap_or_else(|| panic!("accepted {rules}"));
        assert!(error.contains(wanted), "{error}");
    }
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    audit: AuditFlags,
}

#[tokio::test]
async fn a_log_is_put_aside_and_old_ones_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.log");
    let line = ["x", "--audit-log-maxsize=1", "--audit-log-maxbackup=2"];
    let flags = Line::try_parse_from(line).expect("flags").audit;
    let log = log_file::LogFile::open(&path, &flags).expect("opened");
    let mut event = trail::Event::default();
    event.request_uri = "x".repeat(300_000);
    for _ in 0..16 {
        let event = Arc::new(event.clone());
        Sink::write(&log, &[event]).await.expect("written");
    }
    let names: Vec<String> = std::fs::read_dir(dir.path())
        .expect("listed")
        .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(std::fs::metadata(&path).expect("there").len() < 1024 * 1024);
}

#[test]
fn large_events_lose_their_bodies() {
    let body = Some(serde_json::Value::from("x".repeat(2000)));
    let event = |level| {
        let mut event = trail::Event::default();
        (event.level, event.request_object) = (level, body.clone());
        Arc::new(event)
    };
    assert!(event(Level::Request).within(4000).expect("fits").request_object.is_some());
    let short = event(Level::Request).within(1000).expect("fits without its body");
    let text = serde_json::to_string(&*short).expect("encoded");
    assert!(short.request_object.is_none() && text.contains("\"audit.k8s.io/truncated\":\"true\""), "{text}");
    assert!(event(Level::Metadata).within(1000).is_none(), "there was nothing to leave out");
    assert!(event(Level::Request).within(10).is_none());
}

#[test]
fn flags_that_contradict_are_refused() {
    let problems = |line: &[&str]| {
        let line = [&["x", "--audit-log-path=-"][..], line].concat();
        Line::try_parse_from(line).expect("flags").audit.problems()
    };
    assert_eq!(problems(&[]), [""; 0]);
    for (flag, wanted) in [
        ("--audit-log-maxage=-1", "--audit-log-maxage -1 can't be a negative number"),
        ("--audit-log-format=xml", "invalid audit log format xml, allowed formats are \"legacy,json\""),
        ("--audit-log-mode=x", "invalid audit log mode x, allowed modes are \"batch,blocking,blocking-strict\""),
    ] {
        assert_eq!(problems(&[flag]), [wanted], "{flag}");
    }
    let batch = ["--audit-log-mode=batch", "--audit-log-batch-max-size=0"];
    assert_eq!(problems(&batch), ["invalid audit batch log max batch size 0, must be a positive number"]);
}
