//! Each test works in namespaces of its own, which vanish with it.

use super::*;
use ipnet::IpNet;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn bridge_veth_address_and_route() {
    if !root() {
        return;
    }
    let (host, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let mut h = Handle::open_in(&host).unwrap();
    h.add_link(&NewLink { mtu: 1400, up: true, ..NewLink::new("br0", LinkKind::Bridge { vlan_filtering: false }) })
        .unwrap();
    let br = h.link("br0").unwrap();
    assert_eq!((br.kind.as_str(), br.mtu, br.is_up()), ("bridge", 1400, true));
    assert!(h.add_link(&NewLink::new("br0", LinkKind::Bridge { vlan_filtering: false })).unwrap_err().is_exists());

    let peer = VethPeer { name: "eth0", netns: Some(&pod), mac: &[2, 0, 0, 0, 0, 9], mtu: 1400 };
    h.add_link(&NewLink { master: Some(br.index), up: true, mtu: 1400, ..NewLink::new("veth1", LinkKind::Veth(peer)) })
        .unwrap();
    let veth = h.link("veth1").unwrap();
    h.set_port(veth.index, PortOptions { hairpin: Some(true), isolated: Some(true), ..Default::default() }).unwrap();
    assert_eq!(veth.master, Some(br.index));
    h.add_address(br.index, net("10.9.0.1/24")).unwrap();
    h.ensure_address(br.index, net("10.9.0.1/24")).unwrap();

    let mut p = Handle::open_in(&pod).unwrap();
    let eth = p.link("eth0").unwrap();
    assert_eq!(eth.mac(), "02:00:00:00:00:09");
    p.set_up(eth.index, true).unwrap();
    p.add_address(eth.index, net("10.9.0.2/24")).unwrap();
    p.add_address(eth.index, net("fd00::2/64")).unwrap();
    p.add_route(&Route::to(net("0.0.0.0/0")).via("10.9.0.1".parse().unwrap())).unwrap();
    let default: Vec<_> = p.routes(None).unwrap().into_iter().filter(Route::is_default).collect();
    assert_eq!(default[0].gateway, Some("10.9.0.1".parse().unwrap()));
    assert!(p.addresses(Some(eth.index)).unwrap().iter().any(|a| a.net == net("fd00::2/64") && !a.tentative));
    p.delete_route(&Route::to(net("0.0.0.0/0"))).unwrap();
    assert!(p.delete_route(&Route::to(net("0.0.0.0/0"))).unwrap_err().is_not_found());

    p.replace_neighbour(&Neighbour {
        link: eth.index,
        ip: Some("10.9.0.1".parse().unwrap()),
        mac: br.address.clone(),
        proxy: false,
        forwarding: false,
    })
    .unwrap();
    let rule = Rule { priority: 100, table: 77, from: Some(net("10.9.0.0/24")), ..Default::default() };
    p.add_rule(&rule).unwrap();
    assert!(p.rules().unwrap().contains(&rule));
    p.delete_rule(&rule).unwrap();

    assert!(h.delete_link_if_exists("veth1").unwrap());
    assert!(!h.delete_link_if_exists("veth1").unwrap());
    assert!(matches!(p.link("eth0"), Err(Error::NotFound(_))));
}

#[test]
fn sysctls_are_those_of_the_namespace() {
    if !root() {
        return;
    }
    let ns = NetNs::create().unwrap();
    let before = sysctl::get("net/ipv4/ip_forward").unwrap();
    let flipped = if before == "1" { "0" } else { "1" };
    sysctl::set_all_in(&ns, &[("net/ipv4/ip_forward".to_owned(), flipped)]).unwrap();
    assert_eq!(ns.run(|| sysctl::get("net/ipv4/ip_forward").unwrap()).unwrap(), flipped);
    assert_eq!(sysctl::get("net/ipv4/ip_forward").unwrap(), before);
    assert!(!NetNs::current().unwrap().same_as(&ns).unwrap());
}

#[test]
fn shaping_and_tunnels() {
    if !root() {
        return;
    }
    let ns = NetNs::create().unwrap();
    let mut h = Handle::open_in(&ns).unwrap();
    let peer = VethPeer { name: "b", ..Default::default() };
    h.add_link(&NewLink { up: true, ..NewLink::new("a", LinkKind::Veth(peer)) }).unwrap();
    h.add_link(&NewLink { up: true, ..NewLink::new("ifb0", LinkKind::Ifb) }).unwrap();
    let (a, ifb) = (h.link("a").unwrap().index, h.link("ifb0").unwrap().index);
    h.set_token_bucket(a, 1_000_000, 20_000, 25_000).unwrap();
    h.set_token_bucket(ifb, 1_000_000, 20_000, 25_000).unwrap();
    h.redirect_ingress(a, ifb).unwrap();
    h.clear_token_bucket(a).unwrap();
    let options =
        VxlanOptions { vni: 4, port: 8472, local: Some("10.0.0.1".parse().unwrap()), lower: None, learning: false };
    h.add_link(&NewLink::new("vx0", LinkKind::Vxlan(options))).unwrap();
    let mut flows = conntrack::Conntrack::open_in(&ns).unwrap();
    assert!(flows.flows(false, |_| true).unwrap().is_empty());
}
