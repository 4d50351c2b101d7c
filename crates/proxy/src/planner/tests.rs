//! Transactions as text: what a change emits, and nothing more.

use super::*;
use crate::model::{LocalDetector, ServicePort, SliceEndpoint, SlicePort};
use std::net::IpAddr;
use sys::nft::{Family, Proto};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings() -> Settings {
    Settings { detector: LocalDetector::Cidr("10.244.0.0/16".parse().unwrap()), ..Settings::new(Family::Ip, "n1") }
}

fn service() -> Service {
    let port = ServicePort { name: "p80".into(), proto: Proto::Tcp, port: 80, node_port: 0 };
    Service { cluster_ips: vec![ip("10.96.0.1"), ip("fd96::1")], ports: vec![port], ..Default::default() }
}

/// Endpoints by last byte; those before the bar are on this node.
fn slice(service: &str, here: &[u8], there: &[u8]) -> Slice {
    let endpoint = |n: &u8, node: &str| SliceEndpoint {
        ip: IpAddr::from([10, 244, 0, *n]),
        ready: true,
        serving: true,
        terminating: false,
        node: node.into(),
        zone_hints: BTreeSet::new(),
        node_hints: BTreeSet::new(),
    };
    Slice {
        service: ServiceName::new("ns1", service),
        family: Family::Ip,
        ports: vec![SlicePort { name: "p80".into(), proto: Proto::Tcp, port: 8080 }],
        endpoints: here.iter().map(|n| endpoint(n, "n1")).chain(there.iter().map(|n| endpoint(n, "n2"))).collect(),
    }
}

struct Bench {
    planner: Planner,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { planner: Planner::new(settings()), now: Instant::now() };
        assert!(bench.planner.plan(bench.now).full);
        bench
    }

    fn service(&mut self, name: &str, service: Option<Service>) {
        self.planner.set_service(ServiceName::new("ns1", name), service);
    }

    fn slice(&mut self, name: &str, slice: Option<Slice>) {
        self.planner.set_slice(&format!("ns1/{name}"), slice);
    }

    /// The next transaction as lines, hashes shortened away.
    fn plan(&mut self) -> String {
        let text = self.planner.plan(self.now).transaction.map(|t| t.to_string()).unwrap_or_default();
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find("-ns1/") {
            out.push_str(&rest[..at.saturating_sub(8)]);
            rest = &rest[at + 1..];
        }
        out + rest
    }
}

#[test]
fn the_life_of_a_service() {
    let mut b = Bench::new();
    b.service("svc1", Some(service()));
    assert_eq!(
        b.plan(),
        "add element no-endpoint-services { 10.96.0.1 . tcp . 80 : goto reject-chain }\nadd element cluster-ips { 10.96.0.1 }\n"
    );
    assert_eq!(b.plan(), "");
    b.slice("svc1-a", Some(slice("svc1", &[2], &[3])));
    assert_eq!(
        b.plan(),
        "add chain service-ns1/svc1/tcp/p80\n\
         flush chain service-ns1/svc1/tcp/p80\n\
         add rule service-ns1/svc1/tcp/p80 meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }\n\
         delete element no-endpoint-services { 10.96.0.1 . tcp . 80 }\n\
         add element service-ips { 10.96.0.1 . tcp . 80 : goto service-ns1/svc1/tcp/p80 }\n\
         add element hairpin-connections { 10.244.0.2 . 10.244.0.2 . tcp . 8080 }\n"
    );
    b.slice("svc1-a", Some(slice("svc1", &[2], &[])));
    assert_eq!(
        b.plan(),
        "add chain service-ns1/svc1/tcp/p80\nflush chain service-ns1/svc1/tcp/p80\n\
         add rule service-ns1/svc1/tcp/p80 meta l4proto tcp dnat to 10.244.0.2:8080\n"
    );
    b.service("svc1", None);
    assert_eq!(
        b.plan(),
        "delete element service-ips { 10.96.0.1 . tcp . 80 }\ndelete element cluster-ips { 10.96.0.1 }\n\
         delete element hairpin-connections { 10.244.0.2 . 10.244.0.2 . tcp . 8080 }\nflush chain service-ns1/svc1/tcp/p80\n"
    );
    assert!(b.planner.collect(b.now).is_none());
    let due = b.planner.next_stale().unwrap();
    let collected = b.planner.collect(due).unwrap();
    assert_eq!(collected.commands.len(), 1);
    b.planner.keep_stale(&collected, due);
    assert!(b.planner.next_stale().is_some_and(|at| at > due));
}

#[test]
fn node_ports_and_policies() {
    let mut b = Bench::new();
    let mut svc = service();
    svc.ports[0].node_port = 30080;
    svc.external_local = true;
    b.service("svc1", Some(svc.clone()));
    b.slice("svc1-a", Some(slice("svc1", &[], &[3])));
    assert_eq!(
        b.plan(),
        "add chain external-ns1/svc1/tcp/p80\nadd chain service-ns1/svc1/tcp/p80\n"
            .replace("\nadd", "\nflush chain external-ns1/svc1/tcp/p80\nadd")
            + "flush chain service-ns1/svc1/tcp/p80\n\
         add rule external-ns1/svc1/tcp/p80 ip saddr 10.244.0.0/16 goto service-ns1/svc1/tcp/p80\n\
         add rule external-ns1/svc1/tcp/p80 fib saddr type local meta mark set meta mark | 0x4000\n\
         add rule external-ns1/svc1/tcp/p80 fib saddr type local goto service-ns1/svc1/tcp/p80\n\
         add rule service-ns1/svc1/tcp/p80 meta l4proto tcp dnat to 10.244.0.3:8080\n\
         add element service-ips { 10.96.0.1 . tcp . 80 : goto service-ns1/svc1/tcp/p80 }\n\
         add element service-nodeports { tcp . 30080 : goto external-ns1/svc1/tcp/p80 }\n\
         add element no-endpoint-nodeports { tcp . 30080 : drop }\n\
         add element cluster-ips { 10.96.0.1 }\n"
    );
    assert_eq!(b.planner.no_local(), (0, 1));
    svc.external_local = false;
    b.service("svc1", Some(svc));
    assert_eq!(
        b.plan(),
        "add chain external-ns1/svc1/tcp/p80\nflush chain external-ns1/svc1/tcp/p80\n\
         add rule external-ns1/svc1/tcp/p80 meta mark set meta mark | 0x4000\n\
         add rule external-ns1/svc1/tcp/p80 goto service-ns1/svc1/tcp/p80\n\
         delete element no-endpoint-nodeports { tcp . 30080 }\n"
    );
}

#[test]
fn affinity_and_source_ranges() {
    let mut b = Bench::new();
    let mut svc = service();
    svc.affinity_seconds = Some(60);
    svc.load_balancer_ips = vec![ip("203.0.113.1")];
    svc.source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
    b.service("svc1", Some(svc.clone()));
    b.slice("svc1-a", Some(slice("svc1", &[2], &[])));
    let text = b.plan();
    for line in [
        "add set affinity-ns1/svc1/tcp/p80__10.244.0.2/8080 { type ipv4_addr; flags dynamic,timeout; timeout 60s }",
        "add rule service-ns1/svc1/tcp/p80 ip saddr @affinity-ns1/svc1/tcp/p80__10.244.0.2/8080 goto endpoint-ns1/svc1/tcp/p80__10.244.0.2/8080",
        "add rule service-ns1/svc1/tcp/p80 numgen random mod 1 vmap { 0 : goto endpoint-ns1/svc1/tcp/p80__10.244.0.2/8080 }",
        "add rule endpoint-ns1/svc1/tcp/p80__10.244.0.2/8080 update @affinity-ns1/svc1/tcp/p80__10.244.0.2/8080 { ip saddr }",
        "add rule endpoint-ns1/svc1/tcp/p80__10.244.0.2/8080 meta l4proto tcp dnat to 10.244.0.2:8080",
        "add rule firewall-ns1/svc1/tcp/p80 ip saddr 198.51.100.0/24 return",
        "add rule firewall-ns1/svc1/tcp/p80 drop",
        "add element firewall-ips { 203.0.113.1 . tcp . 80 : goto firewall-ns1/svc1/tcp/p80 }",
        "add element service-ips { 10.96.0.1 . tcp . 80 : goto service-ns1/svc1/tcp/p80, 203.0.113.1 . tcp . 80 : goto external-ns1/svc1/tcp/p80 }",
    ] {
        assert!(text.lines().any(|l| l == line), "missing `{line}` in\n{text}");
    }
    b.slice("svc1-a", None);
    let text = b.plan();
    assert!(
        text.ends_with("flush chain service-ns1/svc1/tcp/p80\ndelete set affinity-ns1/svc1/tcp/p80__10.244.0.2/8080\n"),
        "{text}"
    );
    b.slice("svc1-a", Some(slice("svc1", &[2], &[])));
    b.plan();
    svc.affinity_seconds = Some(61);
    b.service("svc1", Some(svc));
    assert!(b.planner.plan(b.now).full, "a timeout cannot be changed in place");
}

#[test]
fn two_services_that_want_one_address_do_not_fight() {
    let mut b = Bench::new();
    let mut svc = service();
    svc.external_ips = vec![ip("192.0.2.9")];
    b.service("a", Some(svc.clone()));
    b.slice("a-1", Some(slice("a", &[2], &[])));
    b.plan();
    svc.cluster_ips = vec![ip("10.96.0.2")];
    b.service("b", Some(svc));
    b.slice("b-1", Some(slice("b", &[3], &[])));
    assert!(!b.plan().contains("192.0.2.9"));
    b.service("a", None);
    let text = b.plan();
    assert!(text.contains("delete element service-ips { 10.96.0.1 . tcp . 80, 192.0.2.9 . tcp . 80 }"), "{text}");
    assert!(text.contains("add element service-ips { 192.0.2.9 . tcp . 80 : goto external-ns1/b/tcp/p80 }"), "{text}");
}

#[test]
fn slices_move_and_lists_are_fresh() {
    let mut b = Bench::new();
    b.service("svc1", Some(service()));
    b.slice("x", Some(slice("svc1", &[2], &[])));
    b.plan();
    b.slice("x", Some(slice("other", &[2], &[])));
    assert!(b.plan().contains("add element no-endpoint-services"));
    b.planner.failed();
    let plan = b.planner.plan(b.now);
    assert!(
        plan.full
            && plan
                .transaction
                .unwrap()
                .to_string()
                .contains("no-endpoint-services { 10.96.0.1 . tcp . 80 : goto reject-chain }")
    );
    b.planner.retain(&BTreeSet::new(), &BTreeSet::new());
    assert!(b.plan().contains("delete element cluster-ips { 10.96.0.1 }"));
    assert_eq!(b.planner.services().len(), 0);
}
