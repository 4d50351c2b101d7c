//! A node in a namespace of its own with pods behind veths: real rules, real connections.

use super::*;
use crate::model::{LocalDetector, Proto, ServicePort, SliceEndpoint, SlicePort};
use ipnet::IpNet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use sys::netlink::{Handle, LinkKind, NetNs, NewLink, Route, VethPeer};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A node with an uplink at 192.0.2.1/24 towards "outside" (192.0.2.9), and pods at 10.244.0.N.
struct Net {
    node: NetNs,
    outside: NetNs,
    pods: Vec<NetNs>,
}

fn link(node: &NetNs, name: &str, at: &NetNs, node_ip: &str, ip: &str) {
    let mut handle = Handle::open_in(node).unwrap();
    let peer = VethPeer { name: "eth0", netns: Some(at), ..Default::default() };
    handle.add_link(&NewLink { up: true, ..NewLink::new(name, LinkKind::Veth(peer)) }).unwrap();
    let index = handle.link(name).unwrap().index;
    handle.add_address(index, node_ip.parse().unwrap()).unwrap();
    let mut inside = Handle::open_in(at).unwrap();
    let (lo, eth) = (inside.link("lo").unwrap().index, inside.link("eth0").unwrap().index);
    inside.set_up(lo, true).unwrap();
    inside.set_up(eth, true).unwrap();
    let own: IpNet = ip.parse().unwrap();
    inside.add_address(eth, own).unwrap();
    let gateway: IpNet = node_ip.parse().unwrap();
    inside
        .ensure_route(&Route::to(IpNet::from(gateway.addr())).dev(eth).scope(sys::netlink::RouteScope::Link))
        .unwrap();
    inside.add_route(&Route::to("0.0.0.0/0".parse().unwrap()).via(gateway.addr()).dev(eth)).unwrap();
    if own.prefix_len() == 32 {
        handle.add_route(&Route::to(own).dev(index).scope(sys::netlink::RouteScope::Link)).unwrap();
    }
}

impl Net {
    fn new(pods: u8) -> Self {
        let (node, outside) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let mut handle = Handle::open_in(&node).unwrap();
        let lo = handle.link("lo").unwrap().index;
        handle.set_up(lo, true).unwrap();
        sysctl::set_all_in(&node, &[("net/ipv4/ip_forward".to_owned(), "1")]).unwrap();
        link(&node, "up0", &outside, "192.0.2.1/24", "192.0.2.9/24");
        let up = handle.link("up0").unwrap().index;
        handle.add_route(&Route::to("0.0.0.0/0".parse().unwrap()).via(ip("192.0.2.9")).dev(up)).unwrap();
        let pods = (0..pods)
            .map(|n| {
                let pod = NetNs::create().unwrap();
                link(&node, &format!("pod{n}"), &pod, "10.244.0.1/32", &format!("10.244.0.{}/32", n + 2));
                pod
            })
            .collect();
        Self { node, outside, pods }
    }

    fn engine(&self) -> Engine {
        let settings = Settings {
            detector: LocalDetector::Cidr("10.244.0.0/16".parse().unwrap()),
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            node_ip: Some(ip("192.0.2.1")),
            ..Settings::new(Family::Ip, "n1")
        };
        self.node.run(|| Engine::open(vec![settings])).unwrap().unwrap()
    }

    fn sync(&self, engine: &mut Engine) {
        let done = self.node.run(|| engine.sync()).unwrap();
        assert!(done.ok);
    }
}

fn service(node_port: u16) -> Service {
    Service {
        cluster_ips: vec![ip("10.96.0.10")],
        ports: vec![
            ServicePort { name: "t".into(), proto: Proto::Tcp, port: 80, node_port },
            ServicePort { name: "u".into(), proto: Proto::Udp, port: 53, node_port: 0 },
        ],
        ..Default::default()
    }
}

/// Pods by number, those below zero on another node.
fn slice(pods: &[u8]) -> Slice {
    Slice {
        service: ServiceName::new("ns", "svc"),
        family: Family::Ip,
        ports: vec![
            SlicePort { name: "t".into(), proto: Proto::Tcp, port: 8080 },
            SlicePort { name: "u".into(), proto: Proto::Udp, port: 5353 },
        ],
        endpoints: pods
            .iter()
            .map(|n| SliceEndpoint {
                ip: IpAddr::from([10, 244, 0, n + 2]),
                ready: true,
                serving: true,
                terminating: false,
                node: "n1".into(),
                zone_hints: Default::default(),
                node_hints: Default::default(),
            })
            .collect(),
    }
}

/// A server that answers each connection with its number and the peer's address.
fn serve(pod: &NetNs, number: u8) {
    let listener = pod.run(|| TcpListener::bind("0.0.0.0:8080").unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
            let _ = write!(stream, "{number} {peer}");
        }
    });
    let socket = pod.run(|| UdpSocket::bind("0.0.0.0:5353").unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut buf = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buf) {
            let _ = socket.send_to(number.to_string().as_bytes(), peer);
        }
    });
}

/// What a connection gets: the server's words, or the kind of failure.
fn get(from: &NetNs, to: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    from.run(move || match TcpStream::connect_timeout(&to, Duration::from_millis(700)) {
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

fn ready() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn cluster_ips_node_ports_hairpin_and_refusal() {
    if !ready() {
        return;
    }
    let net = Net::new(3);
    (0..3).for_each(|n| serve(&net.pods[usize::from(n)], n));
    let mut engine = net.engine();
    let name = ServiceName::new("ns", "svc");
    engine.set_service(&name, Some(&service(30080)));
    net.sync(&mut engine);
    assert_eq!(get(&net.pods[0], "10.96.0.10:80"), "ConnectionRefused", "no endpoints");
    assert_eq!(get(&net.outside, "192.0.2.1:30080"), "ConnectionRefused");
    assert_eq!(get(&net.pods[0], "10.96.0.99:80"), "TimedOut", "an address of nobody");

    engine.set_slice("ns/a", Some(&slice(&[1, 2])));
    net.sync(&mut engine);
    let mut seen: Vec<String> = (0..30).map(|_| get(&net.pods[0], "10.96.0.10:80")).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["1 10.244.0.2", "2 10.244.0.2"], "both endpoints, source kept");
    assert_eq!(get(&net.pods[0], "10.96.0.10:81"), "ConnectionRefused", "no such port");
    for (from, to) in [
        (&net.outside, "192.0.2.1:30080"),
        (&net.node, "127.0.0.1:30080"),
        (&net.node, "192.0.2.1:30080"),
        (&net.node, "10.96.0.10:80"),
    ] {
        let text = get(from, to);
        assert!(text.starts_with('1') || text.starts_with('2'), "{to}: {text}");
    }
    assert!(get(&net.outside, "192.0.2.1:30080").ends_with("10.244.0.1"), "masqueraded");

    engine.set_slice("ns/a", Some(&slice(&[1])));
    net.sync(&mut engine);
    assert_eq!(get(&net.pods[1], "10.96.0.10:80"), "1 10.244.0.1", "itself, masqueraded");
    engine.set_service(&name, None);
    net.sync(&mut engine);
    assert_eq!(get(&net.pods[0], "10.96.0.10:80"), "TimedOut");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(net.node.run(|| engine.sync()).unwrap(), Synced { ok: true, ..Default::default() });
    assert_eq!(engine.next_cleanup(), None);
    net.node.run(cleanup).unwrap().unwrap();
}

#[test]
fn affinity_local_policy_and_source_ranges() {
    if !ready() {
        return;
    }
    let net = Net::new(3);
    (0..3).for_each(|n| serve(&net.pods[usize::from(n)], n));
    let mut engine = net.engine();
    let name = ServiceName::new("ns", "svc");
    let mut svc = service(30080);
    svc.affinity_seconds = Some(100);
    svc.load_balancer_ips = vec![ip("203.0.113.5")];
    svc.source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
    engine.set_service(&name, Some(&svc));
    engine.set_slice("ns/a", Some(&slice(&[0, 1, 2])));
    net.sync(&mut engine);
    let first = get(&net.outside, "192.0.2.1:30080");
    for _ in 0..10 {
        assert_eq!(get(&net.outside, "192.0.2.1:30080"), first, "sticks");
    }
    assert_eq!(get(&net.outside, "203.0.113.5:80"), "TimedOut", "out of range");
    svc.source_ranges.push("192.0.2.0/24".parse().unwrap());
    svc.external_local = true;
    engine.set_service(&name, Some(&svc));
    net.sync(&mut engine);
    let answer = get(&net.outside, "203.0.113.5:80");
    assert!(answer.ends_with("192.0.2.9"), "policy Local keeps the source: {answer}");
    let mut elsewhere = slice(&[1]);
    elsewhere.endpoints[0].node = "n2".into();
    engine.set_slice("ns/a", Some(&elsewhere));
    net.sync(&mut engine);
    assert_eq!(get(&net.outside, "203.0.113.5:80"), "TimedOut", "no endpoint here");
    assert!(get(&net.pods[0], "203.0.113.5:80").starts_with('1') || svc.source_ranges.len() == 2, "pods go anywhere");
    assert_eq!(get(&net.node, "192.0.2.1:30080"), "1 10.244.0.1", "so does the node");
}

#[test]
fn udp_flows_follow_their_endpoints() {
    if !ready() {
        return;
    }
    let net = Net::new(3);
    (0..3).for_each(|n| serve(&net.pods[usize::from(n)], n));
    let mut engine = net.engine();
    engine.set_service(&ServiceName::new("ns", "svc"), Some(&service(0)));
    engine.set_slice("ns/a", Some(&slice(&[1])));
    net.sync(&mut engine);
    let socket = net.pods[0].run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let ask = || {
        let mut buf = [0; 8];
        socket.send_to(b"x", "10.96.0.10:53").unwrap();
        socket.recv_from(&mut buf).map(|(n, _)| String::from_utf8_lossy(&buf[..n]).into_owned()).unwrap_or_default()
    };
    assert_eq!(ask(), "1");
    engine.set_slice("ns/a", Some(&slice(&[2])));
    net.sync(&mut engine);
    assert_eq!(ask(), "2", "the old flow is forgotten");
}

#[test]
fn what_we_write_is_what_we_mean() {
    if !ready() {
        return;
    }
    let net = Net::new(1);
    let mut engine = net.engine();
    let mut broken = service(0);
    engine.set_service(&ServiceName::new("ns", "svc"), Some(&broken));
    net.sync(&mut engine);
    // Somebody removes our table: the next change fails, and the one after it makes everything anew.
    net.node.run(cleanup).unwrap().unwrap();
    broken.cluster_ips = vec![ip("10.96.0.11")];
    engine.set_service(&ServiceName::new("ns", "svc"), Some(&broken));
    assert!(!net.node.run(|| engine.sync()).unwrap().ok);
    let done = net.node.run(|| engine.sync()).unwrap();
    assert!(done.ok && done.full);
    assert_eq!(get(&net.pods[0], "10.96.0.11:80"), "ConnectionRefused");
}
