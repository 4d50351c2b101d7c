use super::*;
use crate::model::{Family, ServiceName, SliceEndpoint, SlicePort};

/// An endpoint from words: `10.0.0.1 ready here zone=a node=n1`.
fn endpoint(words: &str) -> SliceEndpoint {
    let has = |w: &str| words.split(' ').any(|x| x == w);
    let hints = |key: &str| words.split(' ').filter_map(|w| w.strip_prefix(key)).map(str::to_owned).collect();
    SliceEndpoint {
        ip: words.split(' ').next().unwrap().parse().unwrap(),
        ready: has("ready"),
        serving: has("ready") || has("serving"),
        terminating: has("terminating"),
        node: if has("here") { "n1".into() } else { "n2".into() },
        zone_hints: hints("zone="),
        node_hints: hints("node="),
    }
}

fn slice(endpoints: &[&str]) -> Slice {
    Slice {
        service: ServiceName::new("ns", "svc"),
        family: Family::Ip,
        ports: vec![SlicePort { name: "p".into(), proto: Proto::Tcp, port: 80 }],
        endpoints: endpoints.iter().map(|e| endpoint(e)).collect(),
    }
}

/// Policies as letters: i = internal local, e = external local, n = node port.
fn run(policies: &str, endpoints: &[&str]) -> String {
    let service = Service {
        internal_local: policies.contains('i'),
        external_local: policies.contains('e'),
        ..Default::default()
    };
    let node_port = if policies.contains('n') { 30000 } else { 0 };
    let port = ServicePort { name: "p".into(), proto: Proto::Tcp, port: 80, node_port };
    let slice = slice(endpoints);
    let merged = merge([&slice], "p", Proto::Tcp, "n1");
    let c = categorize(&merged, &service, &port, "n1", "a");
    let last = |all: &[SocketAddr]| {
        all.iter().map(|a| a.ip().to_string().rsplit('.').next().unwrap().to_owned()).collect::<Vec<_>>().join(",")
    };
    format!("cluster={} local={} any={}", last(&c.cluster), last(&c.local), c.any)
}

#[test]
fn policies_and_conditions() {
    for (policies, endpoints, expected) in [
        ("", &["10.0.0.1 ready here", "10.0.0.2 ready", "10.0.0.3"][..], "cluster=1,2 local= any=true"),
        ("", &[], "cluster= local= any=false"),
        ("", &["10.0.0.1 serving terminating", "10.0.0.2 terminating"], "cluster=1 local= any=true"),
        ("", &["10.0.0.1 serving terminating", "10.0.0.2 ready"], "cluster=2 local= any=true"),
        ("i", &["10.0.0.1 ready here", "10.0.0.2 ready"], "cluster= local=1 any=true"),
        ("i", &["10.0.0.2 ready"], "cluster= local= any=true"),
        ("e", &["10.0.0.1 ready here", "10.0.0.2 ready"], "cluster=1,2 local= any=true"),
        ("en", &["10.0.0.1 ready here", "10.0.0.2 ready"], "cluster=1,2 local=1 any=true"),
        ("en", &["10.0.0.1 serving terminating here", "10.0.0.2 ready"], "cluster=2 local=1 any=true"),
        ("in", &["10.0.0.1 ready here", "10.0.0.2 ready"], "cluster=1,2 local=1 any=true"),
    ] {
        assert_eq!(run(policies, endpoints), expected, "{policies} {endpoints:?}");
    }
}

#[test]
fn hints() {
    for (endpoints, expected) in [
        (&["10.0.0.1 ready zone=a", "10.0.0.2 ready zone=b"][..], "1"),
        (&["10.0.0.1 ready zone=b", "10.0.0.2 ready zone=b"], "1,2"),
        (&["10.0.0.1 ready zone=a", "10.0.0.2 ready"], "1,2"),
        (&["10.0.0.1 ready zone=a node=n1", "10.0.0.2 ready zone=a node=n2"], "1"),
        (&["10.0.0.1 ready zone=a node=n3", "10.0.0.2 ready zone=b node=n2"], "1"),
        (&["10.0.0.1 ready zone=a", "10.0.0.2"], "1"),
        (&["10.0.0.1 serving terminating zone=b"], "1"),
    ] {
        assert_eq!(run("", endpoints), format!("cluster={expected} local= any=true"), "{endpoints:?}");
    }
}

#[test]
fn duplicates_prefer_the_one_that_stays() {
    let a = slice(&["10.0.0.1 serving terminating"]);
    let b = slice(&["10.0.0.1 ready"]);
    for order in [[&a, &b], [&b, &a]] {
        let merged = merge(order, "p", Proto::Tcp, "n1");
        assert_eq!((merged.len(), merged[0].ready), (1, true));
    }
    assert!(merge([&a], "other", Proto::Tcp, "n1").is_empty());
    assert!(merge([&a], "p", Proto::Udp, "n1").is_empty());
}
