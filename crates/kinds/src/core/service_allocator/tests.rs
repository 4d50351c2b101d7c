//! Addresses and ports over the memory engine.

use auth_api::UserInfo;
use registry::backend::{Embedded, EmbeddedOptions};

use super::*;

fn hooks() -> (ServiceHooks, Ctx) {
    let cluster_ips = vec!["10.0.0.0/29".parse().expect("a range"), "fd00::/112".parse().expect("a range")];
    let ranges = ServiceRanges { cluster_ips, node_ports: 30_000..=30_001 };
    let store = Embedded::memory(EmbeddedOptions::default()).expect("the memory engine starts");
    let registry = Registry::new(store, rt::Shutdown::new());
    for row in crate::kinds(&crate::Config::new(ranges.clone())) {
        registry.add(row);
    }
    let cx = Ctx {
        user: Arc::new(UserInfo::new("tester", &[])),
        namespace: "ns".into(),
        gvr: meta::GroupVersionResource::new("", "v1", "services"),
        subresource: String::new(),
        dry_run: false,
        registry,
    };
    (ServiceHooks::new(ranges), cx)
}

fn service(spec: Value) -> Object {
    Object::from_value(json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": spec})).expect("an object")
}

#[test]
fn ranges_offer_all_but_their_ends() {
    let range: Cidr = "10.0.0.9/29".parse().expect("a range");
    assert_eq!(range.to_string(), "10.0.0.8/29");
    for (ip, offered) in [("10.0.0.8", false), ("10.0.0.9", true), ("10.0.0.14", true), ("10.0.0.15", false)] {
        assert_eq!(range.offers(ip.parse().expect("an address")), offered, "{ip}");
    }
    assert!("10.0.0.0/33".parse::<Cidr>().is_err());
}

#[tokio::test]
async fn addresses_are_given_once_and_come_back() {
    let (hooks, cx) = hooks();
    let mut claims = Vec::new();
    for _ in 0..6 {
        let (mut object, mut claim) = (service(json!({"type": "ClusterIP"})), Claim::default());
        assert!(hooks.allocate(&cx, &mut object, None, &mut claim).await.expect("works").is_empty());
        claims.push(claim);
    }
    let mut object = service(json!({"type": "ClusterIP"}));
    let full = hooks.allocate(&cx, &mut object, None, &mut Claim::default()).await.expect("works");
    assert_eq!(full.len(), 1);
    ServiceHooks::release(&hooks.ports, &cx.registry, &claims[0]).await;
    assert!(hooks.allocate(&cx, &mut object, None, &mut Claim::default()).await.expect("works").is_empty());
    let mut taken = service(json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}));
    let errors = hooks.allocate(&cx, &mut taken, None, &mut Claim::default()).await.expect("works");
    assert!(errors[0].to_string().ends_with("provided IP is already allocated"), "{}", errors[0]);

    // Another range opens when its ServiceCIDR is ready.
    let registry = &cx.registry;
    let access = registry::Access::new(registry.clone());
    let gvr = meta::GroupVersionResource::new("networking.k8s.io", "v1", "servicecidrs");
    let cidr = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more"},
        "spec": {"cidrs": ["10.1.0.0/29"]}});
    let created = auth_api::Edit::create(&access, &gvr, Object::from_value(cidr).expect("an object")).await;
    let mut created = created.expect("created");
    let mut object = service(json!({"type": "ClusterIP"}));
    let full = hooks.allocate(&cx, &mut object, None, &mut Claim::default()).await.expect("works");
    assert_eq!(full.len(), 1);
    created.body.insert(
        "status".into(),
        json!({"conditions": [{"type": "Ready", "status": "True", "reason": "r",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
    );
    auth_api::Edit::update_status(&access, &gvr, created).await.expect("updated");
    registry.need("networking.k8s.io", "servicecidrs").expect("a row").list(&Default::default()).await.expect("fresh");
    assert!(hooks.allocate(&cx, &mut object, None, &mut Claim::default()).await.expect("works").is_empty());
    assert!(object.get_str(&["spec", "clusterIP"]).starts_with("10.1.0."));
}

#[tokio::test]
async fn two_families_and_repair() {
    let (hooks, cx) = hooks();
    let mut object = service(json!({"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"}));
    let mut claim = Claim::default();
    assert!(hooks.allocate(&cx, &mut object, None, &mut claim).await.expect("works").is_empty());
    let count = || async { ip_claims::all(&cx.registry).await.expect("listed").len() };
    assert_eq!((claim.ips.len(), count().await), (2, 2));
    assert!(claim.ips[0].is_ipv4() && claim.ips[1].is_ipv6());
    // No such service was written: after the grace of one pass the claims are gone.
    hooks.repair(&cx.registry).await.expect("repaired");
    assert_eq!(count().await, 2, "they are young");
    ip_claims::repair_aged(&cx.registry, &ip_claims::all(&cx.registry).await.expect("listed"), &[], 0)
        .await
        .expect("works");
    assert_eq!(count().await, 0);
    // A service from before the claims gets one.
    object.set(&["spec", "clusterIPs"], json!(["10.0.0.3"]));
    ip_claims::repair(&cx.registry, &[], std::slice::from_ref(&object)).await.expect("works");
    assert_eq!(count().await, 1);
}

#[tokio::test]
async fn one_node_port_serves_both_protocols() {
    let (hooks, cx) = hooks();
    let ports =
        json!([{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}, {"port": 80, "protocol": "TCP"}]);
    let mut object = service(json!({"type": "NodePort", "ports": ports}));
    assert!(hooks.allocate(&cx, &mut object, None, &mut Claim::default()).await.expect("works").is_empty());
    let numbers: Vec<i64> = prepare::ports(&object).iter().map(prepare::node_port).collect();
    assert_eq!(numbers[0], numbers[1]);
    assert_ne!(numbers[0], numbers[2]);
}

#[tokio::test]
async fn servers_share_the_ports() {
    let (hooks, cx) = hooks();
    let other = ServiceHooks::new(hooks.ranges().clone());
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]});
    let mut claims = Vec::new();
    for hooks in [&hooks, &other] {
        let (mut object, mut claim) = (service(spec.clone()), Claim::default());
        assert!(hooks.allocate(&cx, &mut object, None, &mut claim).await.expect("works").is_empty());
        claims.push(claim);
    }
    assert_ne!(claims[0].ports, claims[1].ports);
    let full = hooks.allocate(&cx, &mut service(spec.clone()), None, &mut Claim::default()).await.expect("works");
    assert!(full[0].to_string().ends_with("range is full"), "{}", full[0]);
    // Nobody has them: repair gives them back, but not at once.
    for round in 0..=ROUNDS_KEPT {
        let taken = hooks.ports.read(&cx.registry).await.expect("read").numbers;
        assert_eq!(taken.len(), 2, "round {round}");
        hooks.repair(&cx.registry).await.expect("works");
    }
    assert!(hooks.ports.read(&cx.registry).await.expect("read").numbers.is_empty());
}
