//! A "host" is itself a namespace here, so that the machine is never touched.

use super::*;
use std::process::Command as Process;

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

#[test]
fn nodes_reach_the_host_and_everything_goes_again() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = NetNs::create().unwrap();
    let paths = [dir.path().join("n1"), dir.path().join("n2")];
    let nodes = paths.each_ref().map(|p| NetNs::create_pinned(p).unwrap());
    let cluster = Cluster {
        bridge: "ct0".into(),
        addresses: vec!["10.77.0.1/24".parse().unwrap(), "fd77::1/64".parse().unwrap()],
        sources: vec!["10.77.0.0/24".parse().unwrap(), "10.78.0.0/16".parse().unwrap()],
        mtu: 0,
    };
    // A host whose firewall drops what passes through, as Docker leaves it.
    sh(
        &host,
        "nft add table ip filter; nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
    );
    let before = sh(&host, "nft list ruleset");
    let changed = host.run(|| lay(&cluster)).unwrap().unwrap();
    let again = host.run(|| lay(&cluster)).unwrap().unwrap();
    assert!(again.sysctls.is_empty());
    let gateways: Vec<IpAddr> = vec!["10.77.0.1".parse().unwrap(), "fd77::1".parse().unwrap()];
    for (n, path) in paths.iter().enumerate() {
        let addresses: Vec<IpNet> =
            vec![format!("10.77.0.{}/24", n + 2).parse().unwrap(), format!("fd77::{}/64", n + 2).parse().unwrap()];
        let name = format!("node{n}");
        let node = Node { bridge: "ct0", name: &name, netns: path, addresses: &addresses, gateways: &gateways, mtu: 0 };
        host.run(|| attach_node(&node)).unwrap().unwrap();
        host.run(|| attach_node(&node)).unwrap().unwrap();
    }
    assert!(reaches(&nodes[0], "10.77.0.3"), "{}", sh(&nodes[0], "ip a; ip r"));
    assert!(reaches(&nodes[1], "fd77::1"));

    let routes = [
        ("10.78.1.0/24".parse().unwrap(), "10.77.0.2".parse().unwrap()),
        ("10.78.2.0/24".parse().unwrap(), "10.77.0.3".parse().unwrap()),
    ];
    let nodes_net: IpNet = "10.77.0.0/24".parse().unwrap();
    host.run(|| sync_routes(&routes, nodes_net)).unwrap().unwrap();
    sync_routes_in(&paths[0], &routes[1..], nodes_net).unwrap();
    assert!(sh(&host, "ip route").contains("10.78.2.0/24 via 10.77.0.3 dev ct0"));
    host.run(|| sync_routes(&routes[..1], nodes_net)).unwrap().unwrap();
    assert!(!sh(&host, "ip route").contains("10.78.2.0/24"));
    let forward = sh(&host, "nft list chain ip filter FORWARD");
    assert_eq!(forward.matches("comment \"corten ct0\"").count(), 2, "{forward}");
    let rules = sh(&host, "nft list table ip ct0-masq");
    assert!(rules.contains("ip saddr 10.78.0.0/16 oifname != \"ct0\" masquerade"), "{rules}");

    host.run(|| remove(&cluster, &changed)).unwrap().unwrap();
    host.run(|| remove(&cluster, &changed)).unwrap().unwrap();
    assert_eq!(sh(&host, "nft list ruleset"), before);
    assert!(!sh(&host, "ip link").contains("ct0"));
    drop(nodes);
    for path in &paths {
        sys::netlink::netns::remove_pinned(path).unwrap();
    }
}
