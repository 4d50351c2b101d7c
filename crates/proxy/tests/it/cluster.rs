//! Two nodes as `corten up` lays them, the pod network and the proxy of each, and connections every way.

use cni::hostnet;
use ipnet::IpNet;
use node_api::{NetworkRequest, NetworkService};
use proxy::engine::Engine;
use proxy::model::{
    Family, LocalDetector, Proto, Service, ServiceName, ServicePort, Settings, Slice, SliceEndpoint, SlicePort,
};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use sys::netlink::{Handle, LinkKind, NetNs, NewLink, Route, VethPeer};

struct Node {
    ns: NetNs,
    path: PathBuf,
    network: cni::Network,
    engine: Engine,
}

struct Pod {
    ns: NetNs,
    path: PathBuf,
    ip: IpAddr,
}

struct Cluster {
    host: NetNs,
    outside: NetNs,
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    w: Words,
    _dir: tempfile::TempDir,
}

/// The test is written in IPv4 and translated for IPv6.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Words {
    link: cni::PodLink,
    v6: bool,
}

impl Words {
    fn ip(self, text: &str) -> IpAddr {
        let v4: std::net::Ipv4Addr = text.parse().unwrap();
        let [a, b, c, d] = v4.octets().map(u16::from);
        let first = match (a, b) {
            (10, 77) => 0xfd77,
            (10, 78) => 0xfd78,
            (10, 96) => 0xfd96,
            (192, 0) => 0xfd99,
            (0, 0) => return if self.v6 { std::net::Ipv6Addr::UNSPECIFIED.into() } else { v4.into() },
            _ => panic!("{text}"),
        };
        let third = if first == 0xfd78 { c } else { 0 };
        if self.v6 { std::net::Ipv6Addr::new(first, 0, 0, third, 0, 0, 0, d).into() } else { v4.into() }
    }

    fn net(self, text: &str) -> IpNet {
        let (address, len) = text.split_once('/').unwrap();
        let len = match (self.v6, len) {
            (false, len) => len.parse().unwrap(),
            (true, "24") => 64,
            (true, "16") => 48,
            (true, _) => 0,
        };
        IpNet::new(self.ip(address), len).unwrap()
    }

    fn at(self, text: &str) -> String {
        let (address, port) = text.split_once(':').unwrap();
        SocketAddr::new(self.ip(address), port.parse().unwrap()).to_string()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for path in self.nodes.iter().map(|n| &n.path).chain(self.pods.iter().map(|p| &p.path)) {
            let _ = sys::netlink::netns::remove_pinned(path);
        }
    }
}

/// The host with its uplink to `outside`, and the cluster's network.
fn host(w: Words) -> (NetNs, NetNs) {
    let (host, outside) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let mut h = Handle::open_in(&host).unwrap();
    let peer = VethPeer { name: "eth0", netns: Some(&outside), ..Default::default() };
    h.add_link(&NewLink { up: true, ..NewLink::new("up0", LinkKind::Veth(peer)) }).unwrap();
    let up = h.link("up0").unwrap().index;
    h.add_address(up, w.net("192.0.2.1/24")).unwrap();
    h.add_route(&Route::to(w.net("0.0.0.0/0")).via(w.ip("192.0.2.9")).dev(up)).unwrap();
    let mut o = Handle::open_in(&outside).unwrap();
    let eth = o.link("eth0").unwrap().index;
    o.set_up(eth, true).unwrap();
    o.add_address(eth, w.net("192.0.2.9/24")).unwrap();
    let cluster = hostnet::Cluster {
        bridge: "ct0".into(),
        addresses: vec![w.net("10.77.0.1/24")],
        sources: vec![w.net("10.77.0.0/24"), w.net("10.78.0.0/16")],
        mtu: 0,
    };
    host.run(|| hostnet::lay(&cluster)).unwrap().unwrap();
    (host, outside)
}

fn node(host: &NetNs, dir: &Path, n: u8, w: Words) -> Node {
    let path = dir.join(format!("node{n}"));
    let ns = NetNs::create_pinned(&path).unwrap();
    let name = format!("node{n}");
    let addresses = [w.net(&format!("10.77.0.{}/24", n + 1))];
    let spec = hostnet::Node {
        bridge: "ct0",
        name: &name,
        netns: &path,
        addresses: &addresses,
        gateways: &[w.ip("10.77.0.1")],
        mtu: 0,
    };
    host.run(|| hostnet::attach_node(&spec)).unwrap().unwrap();
    let network =
        cni::Network::new(cni::Config { link: w.link, ..cni::Config::built_in(dir.join(format!("state{n}"))) });
    blocking(&ns, network.set_pod_cidrs(&[w.net(&format!("10.78.{n}.0/24")).to_string()])).unwrap();
    let settings = Settings {
        detector: LocalDetector::Cidr(w.net("10.78.0.0/16")),
        service_cidrs: vec![w.net("10.96.0.0/16")],
        node_ip: Some(addresses[0].addr()),
        ..Settings::new(if w.v6 { Family::Ip6 } else { Family::Ip }, name)
    };
    let engine = ns.run(|| Engine::open(vec![settings])).unwrap().unwrap();
    Node { ns, path, network, engine }
}

/// Runs a future on an executor whose threads are all in `ns`.
fn blocking<T: Send>(ns: &NetNs, future: impl Future<Output = T> + Send) -> T {
    ns.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)).unwrap()
}

impl Cluster {
    fn new(w: Words) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (host, outside) = host(w);
        let nodes: Vec<Node> = [1, 2].into_iter().map(|n| node(&host, dir.path(), n, w)).collect();
        let routes = [(w.net("10.78.1.0/24"), w.ip("10.77.0.2")), (w.net("10.78.2.0/24"), w.ip("10.77.0.3"))];
        let mut of_host = routes.to_vec();
        of_host.push((w.net("10.96.0.0/16"), w.ip("10.77.0.2")));
        host.run(|| hostnet::sync_routes(&of_host, w.net("10.77.0.0/24"))).unwrap().unwrap();
        hostnet::sync_routes_in(&nodes[0].path, &routes[1..], w.net("10.77.0.0/24")).unwrap();
        hostnet::sync_routes_in(&nodes[1].path, &routes[..1], w.net("10.77.0.0/24")).unwrap();
        let mut cluster = Self { host, outside, nodes, pods: Vec::new(), w, _dir: dir };
        for (name, node) in [("a1", 0), ("a2", 0), ("b1", 1)] {
            cluster.pod(name, node);
        }
        cluster
    }

    fn pod(&mut self, name: &str, node: usize) {
        let path = self._dir.path().join(name);
        let ns = NetNs::create_pinned(&path).unwrap();
        let request = NetworkRequest { sandbox_id: name.into(), netns: path.clone(), ..Default::default() };
        let begun = std::time::Instant::now();
        let attached = blocking(&self.nodes[node].ns, self.nodes[node].network.setup(&request)).unwrap();
        println!("{name} attached in {:?}", begun.elapsed());
        serve(&ns, name);
        self.pods.push(Pod { ns, path, ip: attached.ips[0] });
    }

    /// The Service `10.96.0.10:80`, node port 30080, with these pods behind it, on both nodes.
    fn service(&mut self, pods: &[usize]) {
        let w = self.w;
        let name = ServiceName::new("ns", "svc");
        let port = ServicePort { name: String::new(), proto: Proto::Tcp, port: 80, node_port: 30080 };
        let service = Service { cluster_ips: vec![w.ip("10.96.0.10")], ports: vec![port], ..Default::default() };
        let endpoint = |n: &usize| SliceEndpoint {
            ip: self.pods[*n].ip,
            ready: true,
            serving: true,
            terminating: false,
            node: if *n < 2 { "node1".into() } else { "node2".into() },
            zone_hints: Default::default(),
            node_hints: Default::default(),
        };
        let slice = Slice {
            service: name.clone(),
            family: if w.v6 { Family::Ip6 } else { Family::Ip },
            ports: vec![SlicePort { name: String::new(), proto: Proto::Tcp, port: 8080 }],
            endpoints: pods.iter().map(endpoint).collect(),
        };
        for node in &mut self.nodes {
            node.engine.set_service(&name, Some(&service));
            node.engine.set_slice("ns/svc-1", Some(&slice));
            assert!(node.ns.run(|| node.engine.sync()).unwrap().ok);
        }
    }
}

/// Answers with its name and the peer's address.
fn serve(ns: &NetNs, name: &str) {
    let listener = ns.run(|| TcpListener::bind("[::]:8080").unwrap()).unwrap();
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().map(|a| a.ip().to_canonical().to_string()).unwrap_or_default();
            let _ = write!(stream, "{name} {peer}");
        }
    });
}

fn get(from: &NetNs, to: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    from.run(move || match TcpStream::connect_timeout(&to, Duration::from_secs(2)) {
        Ok(mut stream) => {
            let mut text = String::new();
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let _ = stream.read_to_string(&mut text);
            text
        }
        Err(e) => format!("{:?}", e.kind()),
    })
    .unwrap()
}

fn every_way(w: Words) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut c = Cluster::new(w);
    serve(&c.outside, "outside");
    serve(&c.host, "host");
    let [a1, a2, b1] = [0, 1, 2].map(|n: usize| c.pods[n].ip);
    let at = |ip: IpAddr| SocketAddr::new(ip, 8080).to_string();
    // Without Services: pods see each other's addresses, the host too; outward they are the host.
    assert_eq!(get(&c.pods[1].ns, &at(a1)), format!("a1 {a2}"));
    assert_eq!(get(&c.pods[1].ns, &at(b1)), format!("b1 {a2}"));
    assert_eq!(get(&c.host, &at(b1)), format!("b1 {}", w.ip("10.77.0.1")));
    assert_eq!(get(&c.pods[2].ns, &w.at("10.77.0.1:8080")), format!("host {b1}"));
    assert_eq!(get(&c.pods[2].ns, &w.at("192.0.2.9:8080")), format!("outside {}", w.ip("192.0.2.1")));
    assert_eq!(get(&c.nodes[0].ns, &w.at("192.0.2.9:8080")), format!("outside {}", w.ip("192.0.2.1")));

    for (behind, from_a2, from_a1) in [
        (vec![0], format!("a1 {a2}"), format!("a1 {}", w.ip("10.78.1.1"))),
        (vec![2], format!("b1 {a2}"), format!("b1 {a1}")),
    ] {
        c.service(&behind);
        assert_eq!(get(&c.pods[1].ns, &w.at("10.96.0.10:80")), from_a2, "{w:?} {behind:?}");
        assert_eq!(get(&c.pods[0].ns, &w.at("10.96.0.10:80")), from_a1, "{w:?} {behind:?}, itself perhaps");
        let name = from_a2.split(' ').next().unwrap().to_owned();
        for (what, from, to) in [
            ("host to ClusterIP", &c.host, "10.96.0.10:80"),
            ("host to node 1", &c.host, "10.77.0.2:30080"),
            ("host to node 2", &c.host, "10.77.0.3:30080"),
            ("node 1 to ClusterIP", &c.nodes[0].ns, "10.96.0.10:80"),
            ("node 2 to ClusterIP", &c.nodes[1].ns, "10.96.0.10:80"),
            ("node 2 to localhost", &c.nodes[1].ns, "127.0.0.1:30080"),
            ("pod to node port", &c.pods[2].ns, "10.77.0.3:30080"),
            ("pod to the other node's port", &c.pods[2].ns, "10.77.0.2:30080"),
        ] {
            if to.starts_with("127") && w.v6 {
                continue;
            }
            let to = if to.starts_with("127") { to.to_owned() } else { w.at(to) };
            let text = get(from, &to);
            assert!(text.starts_with(&name), "{w:?} {what}: {text}");
        }
    }
}

#[test]
fn every_way_through_bridges() {
    every_way(Words { link: cni::PodLink::Bridge, v6: false });
}

#[test]
fn every_way_point_to_point() {
    every_way(Words { link: cni::PodLink::PointToPoint, v6: false });
}

#[test]
fn every_way_in_ipv6() {
    every_way(Words { link: cni::PodLink::Bridge, v6: true });
    every_way(Words { link: cni::PodLink::PointToPoint, v6: true });
}
