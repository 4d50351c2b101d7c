//! Pods on one node, in namespaces of their own, with real packets.

use super::*;
use std::path::Path;
use std::process::Command as Process;
use sys::netlink::NetNs;

struct Pod {
    request: NetworkRequest,
    ns: NetNs,
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = sys::netlink::netns::remove_pinned(&self.request.netns);
    }
}

fn pod(dir: &Path, id: &str) -> Pod {
    let path = dir.join(format!("ns-{id}"));
    let ns = NetNs::create_pinned(&path).unwrap();
    let request = NetworkRequest { sandbox_id: id.into(), netns: path, ..Default::default() };
    Pod { request, ns }
}

fn sh(ns: &NetNs, line: &str) -> String {
    let line = line.to_owned();
    ns.run(move || {
        let out = Process::new("sh").args(["-c", &line]).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    })
    .unwrap()
}

/// Whether an address answers, be it with a refusal.
fn reaches(ns: &NetNs, ip: &str) -> bool {
    let address = std::net::SocketAddr::new(ip.parse().unwrap(), 9);
    let answer =
        ns.run(move || std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(2))).unwrap();
    answer.is_ok() || answer.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn network(dir: &Path, link: PodLink) -> Network {
    Network::new(Config { link, masquerade: true, ..Config::built_in(dir.join("state")) })
}

fn life_of_pods(link: PodLink) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = NetNs::create().unwrap();
    let network = network(dir.path(), link);
    let inner = &network.inner;
    let mut a = pod(dir.path(), "a");
    let b = pod(dir.path(), "b");
    assert_eq!(node.run(|| inner.setup(&a.request)).unwrap().unwrap_err().msg, "cni config uninitialized");
    node.run(|| inner.set_pod_cidrs(&["10.244.1.0/24".into(), "fd44:1::/64".into()])).unwrap().unwrap();
    node.run(|| inner.need_list().and_then(|l| inner.cni.status(&l))).unwrap().unwrap();
    a.request.port_mappings = vec![node_api::PortMapping { host_port: 8080, container_port: 80, ..Default::default() }];
    sh(
        &node,
        "ip link set lo up; ip link add up0 type veth peer name up1; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0",
    );

    let one = node.run(|| inner.setup(&a.request)).unwrap().unwrap();
    let two = node.run(|| inner.setup(&b.request)).unwrap().unwrap();
    assert_eq!(one.ips, ["10.244.1.2".parse::<IpAddr>().unwrap(), "fd44:1::2".parse().unwrap()]);
    assert_eq!(two.ips[0], "10.244.1.3".parse::<IpAddr>().unwrap());
    for target in ["10.244.1.3", "fd44:1::3", "10.244.1.1", "192.0.2.1", "127.0.0.1"] {
        assert!(
            reaches(&a.ns, target),
            "{link:?} {target}\n{}\n{}",
            sh(&a.ns, "ip a; ip r; ip n"),
            sh(&node, "ip a; ip r; ip n")
        );
    }
    node.run(|| inner.cni.check(&inner.need_list().unwrap(), &attachment(&a.request).unwrap())).unwrap().unwrap();

    // The host port answers on the node's address, on loopback, and from pods, the owner included.
    let server = a.ns.run(|| std::net::TcpListener::bind("0.0.0.0:80").unwrap()).unwrap();
    let thread = std::thread::spawn(move || {
        for stream in server.incoming().take(4) {
            drop(stream.unwrap());
        }
    });
    for (from, target) in
        [(&node, "192.0.2.1:8080"), (&node, "127.0.0.1:8080"), (&b.ns, "10.244.1.1:8080"), (&a.ns, "10.244.1.1:8080")]
    {
        let address = target.parse().unwrap();
        let connected = from
            .run(|| std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(3)).map(drop))
            .unwrap();
        assert!(connected.is_ok(), "{link:?} {target}: {connected:?}\n{}", sh(&node, "nft list ruleset"));
    }
    thread.join().unwrap();

    node.run(|| inner.teardown(&a.request)).unwrap().unwrap();
    node.run(|| inner.teardown(&a.request)).unwrap().unwrap();
    let rules = sh(&node, "nft list ruleset");
    assert!(!rules.contains("10.244.1.2") && !rules.contains("8080"), "{rules}");
    // The other one is collected.
    node.run(|| inner.cni.gc(&inner.need_list().unwrap(), &[])).unwrap().unwrap();
    assert_eq!(plugins::host_local::allocations(&dir.path().join("state/networks/corten")).unwrap().len(), 0);
    assert!(!sh(&node, "ip -o link").contains("veth"), "{}", sh(&node, "ip -o link"));
}

#[test]
fn bridged_pods() {
    life_of_pods(PodLink::Bridge);
}

#[test]
fn point_to_point_pods() {
    life_of_pods(PodLink::PointToPoint);
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = NetNs::create().unwrap();
    let network = network(dir.path(), PodLink::Bridge);
    let inner = &network.inner;
    node.run(|| inner.set_pod_cidrs(&["10.244.1.0/24".into()])).unwrap().unwrap();
    let mut a = pod(dir.path(), "a");
    a.request.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "nonsense".into());
    assert!(node.run(|| inner.setup(&a.request)).unwrap().unwrap_err().chain().contains("invalid bandwidth"));
    a.request.annotations.clear();
    let missing = NetworkRequest { netns: dir.path().join("nowhere"), ..a.request.clone() };
    assert!(node.run(|| inner.setup(&missing)).unwrap().is_err());
    let list = inner.built_in(&["10.244.1.0/24".parse().unwrap()]).unwrap();
    let mut broken = list.clone();
    broken.plugins[1].body.insert("backend".into(), "iptables".into());
    let attachment = attachment(&a.request).unwrap();
    let error = node.run(|| inner.cni.add(&broken, &attachment)).unwrap().unwrap_err();
    assert!(error.chain().contains("portmap"), "{}", error.chain());
    node.run(|| inner.cni.del(&list, &attachment)).unwrap().unwrap();
    assert!(!sh(&node, "ip -o link").contains("veth"));
    assert!(plugins::host_local::allocations(&dir.path().join("state/networks/corten")).unwrap().is_empty());
}

#[test]
fn a_restarted_machine_gives_back_what_its_pods_held() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cidrs = ["10.244.1.0/24".to_owned()];
    let held = || plugins::host_local::allocations(&dir.path().join("state/networks/corten")).unwrap().len();
    let (a, b) = (pod(dir.path(), "a"), pod(dir.path(), "b"));
    let before = NetNs::create().unwrap();
    let first = network(dir.path(), PodLink::Bridge);
    before.run(|| first.inner.set_pod_cidrs(&cidrs).and_then(|()| first.inner.setup(&a.request))).unwrap().unwrap();
    before.run(|| first.inner.setup(&b.request)).unwrap().unwrap();
    assert_eq!(held(), 2);
    // The file of a's namespace stays, its mount is gone; b lives on.
    sys::netlink::netns::remove_pinned(&a.request.netns).unwrap();
    std::fs::write(&a.request.netns, "").unwrap();
    let second = network(dir.path(), PodLink::Bridge);
    assert_eq!(second.pod_cidrs(), first.pod_cidrs());
    let c = pod(dir.path(), "c");
    before.run(|| second.inner.setup(&c.request)).unwrap().unwrap();
    assert_eq!(held(), 2);
}

#[test]
fn bandwidth_annotations() {
    assert_eq!(bits("10M").unwrap(), 10_000_000);
    assert_eq!(bits("1Gi").unwrap(), 1 << 30);
    for bad in ["", "10", "1x", "99999T"] {
        assert!(bits(bad).is_err(), "{bad}");
    }
}
