//! What we write must be what `nft` reads back.

use super::*;
use crate::netlink::NetNs;
use std::process::Command as Process;

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn listing(ns: &NetNs, family: Family) -> String {
    let table = family.name().to_owned();
    ns.run(move || {
        let out = Process::new("nft").args(["-nn", "list", "table", &table, "t"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    })
    .unwrap()
}

fn sample(family: Family) -> Transaction {
    let ip = |n: u8| -> IpAddr {
        match family {
            Family::Ip => IpAddr::from([10, 0, 0, n]),
            Family::Ip6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)]),
        }
    };
    let sock = |n: u8| (ip(n), 8080).into();
    let net = ipnet::IpNet::new(ip(0), if family == Family::Ip { 24 } else { 64 }).unwrap();
    let front = vec![Field::DestinationAddr, Field::L4Proto, Field::DestinationPort];
    let mut t = Transaction::new(family, "t");
    t.recreate_table("rules of a test");
    for name in ["svc", "ep", "post", "filter"] {
        t.push(Command::AddChain(Chain { name: name.into(), base: None }));
    }
    t.push(Command::AddChain(Chain { name: "pre".into(), base: Some((ChainKind::Nat, Hook::Prerouting, -100)) }));
    t.push(Command::AddSet(Set {
        name: "service-ips".into(),
        key: vec![DataType::Addr, DataType::Proto, DataType::Port],
        verdicts: true,
        timeout_seconds: None,
        comment: "ClusterIP, ExternalIP and LoadBalancer IP traffic".into(),
    }));
    t.push(Command::AddSet(Set {
        name: "aff".into(),
        key: vec![DataType::Addr],
        verdicts: false,
        timeout_seconds: Some(100),
        comment: String::new(),
    }));
    t.push(Command::AddSet(Set {
        name: "hairpin".into(),
        key: vec![DataType::Addr, DataType::Addr, DataType::Proto, DataType::Port],
        verdicts: false,
        timeout_seconds: None,
        comment: String::new(),
    }));
    t.push(Command::AddElements {
        set: "service-ips".into(),
        elements: vec![Element {
            key: vec![Value::Addr(ip(9)), Value::Proto(Proto::Tcp), Value::Port(80)],
            verdict: Some(Verdict::Goto("svc".into())),
            comment: "ns/svc:http".into(),
        }],
    });
    t.push(Command::AddElements {
        set: "hairpin".into(),
        elements: vec![Element {
            key: vec![Value::Addr(ip(1)), Value::Addr(ip(1)), Value::Proto(Proto::Udp), Value::Port(53)],
            verdict: None,
            comment: String::new(),
        }],
    });
    t.rule("pre", Rule::new([Stmt::Vmap(front, "service-ips".into())]));
    t.rule("svc", Rule::new([Stmt::Addr(Direction::Source, Op::IsNot, net), Stmt::SetMark(0x4000)]).comment("mark"));
    t.rule("svc", Rule::new([Stmt::L4Proto(Proto::Tcp), Stmt::RandomDnat(vec![sock(1), sock(2)])]));
    t.rule("ep", Rule::new([Stmt::UpdateSet(Direction::Source, "aff".into())]));
    t.rule(
        "ep",
        Rule::new([
            Stmt::AddrInSet(Direction::Source, Op::Is, "aff".into()),
            Stmt::L4Proto(Proto::Tcp),
            Stmt::Dnat(sock(1)),
        ]),
    );
    t.rule(
        "filter",
        Rule::new([
            Stmt::CtState(state::NEW | state::RELATED),
            Stmt::RandomVerdict(vec![Verdict::Goto("ep".into()), Verdict::Drop]),
        ]),
    );
    t.rule("filter", Rule::new([Stmt::FibLocal(Direction::Destination), Stmt::CtDnat, Stmt::Counter, Stmt::Reject]));
    t.rule(
        "filter",
        Rule::new([Stmt::InLink(Op::IsNot, "veth*".into()), Stmt::L4Proto(Proto::Tcp), Stmt::RejectTcpReset]),
    );
    t.rule(
        "filter",
        Rule::new([
            Stmt::OutLink(Op::Is, "eth0".into()),
            Stmt::Port(Direction::Destination, Op::Is, 53),
            Stmt::accept(),
        ]),
    );
    t.rule("post", Rule::new([Stmt::Mark(0x4000), Stmt::ClearMark(0x4000), Stmt::Masquerade { fully_random: true }]));
    let hairpin = vec![Field::SourceAddr, Field::DestinationAddr, Field::L4Proto, Field::DestinationPort];
    t.rule(
        "post",
        Rule::new([Stmt::InSet(hairpin, Op::Is, "hairpin".into()), Stmt::Masquerade { fully_random: false }]),
    );
    t.rule("post", Rule::new([Stmt::Addr(Direction::Destination, Op::Is, net), Stmt::Snat(ip(7))]));
    t
}

#[test]
fn the_kernel_takes_it_and_nft_reads_it_back() {
    if !root() {
        return;
    }
    for family in Family::BOTH {
        let ns = NetNs::create().unwrap();
        let mut c = Connection::open_in(&ns).unwrap();
        let transaction = sample(family);
        c.apply(&transaction).unwrap();
        c.apply(&transaction).unwrap();
        assert_eq!(c.tables(family).unwrap(), ["t"]);
        let text = listing(&ns, family);
        let ip = family.name();
        let (a, net) = if family == Family::Ip { ("10.0.0.", "10.0.0.0/24") } else { ("fd00::", "fd00::/64") };
        let sock = |n: u8| if family == Family::Ip { format!("{a}{n}:8080") } else { format!("[{a}{n}]:8080") };
        for expected in [
            format!("type {ip} . ", ip = if family == Family::Ip { "ipv4_addr" } else { "ipv6_addr" }),
            format!("elements = {{ {a}9 . 6 . 80 comment \"ns/svc:http\" : goto svc }}"),
            format!("elements = {{ {a}1 . {a}1 . 17 . 53 }}"),
            "comment \"rules of a test\"".into(),
            "flags dynamic,timeout".into(),
            "timeout 100s".into(),
            "type nat hook prerouting priority -100; policy accept;".into(),
            format!("{ip} daddr . meta l4proto . th dport vmap @service-ips"),
            format!("{ip} saddr != {net} meta mark set meta mark | 0x00004000 comment \"mark\""),
            format!("meta l4proto 6 dnat {ip} to numgen random mod 2 map {{ 0 : {a}1 . 8080, 1 : {a}2 . 8080 }}"),
            format!("update @aff {{ {ip} saddr }}"),
            format!("{ip} saddr @aff meta l4proto 6 dnat to {}", sock(1)),
            "numgen random mod 2 vmap { 0 : goto ep, 1 : drop }".into(),
            "fib daddr type 2 ct status 0x20 counter packets 0 bytes 0 reject".into(),
            "iifname != \"veth*\" reject with tcp reset".into(),
            "oifname \"eth0\" th dport 53 accept".into(),
            "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random".into(),
            format!("{ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin masquerade"),
            format!("{ip} daddr {net} snat to {a}7"),
        ] {
            assert!(text.contains(&expected), "missing `{expected}` in\n{text}");
        }
        c.apply(&Transaction { family, table: "t".into(), commands: vec![Command::DeleteTable] }).unwrap();
    }
}

#[test]
fn a_refusal_names_the_command_and_undoes_everything() {
    if !root() {
        return;
    }
    let ns = NetNs::create().unwrap();
    let mut c = Connection::open_in(&ns).unwrap();
    let mut t = Transaction::new(Family::Ip, "t");
    t.push(Command::AddTable { comment: String::new() });
    t.push(Command::AddChain(Chain { name: "a".into(), base: None }));
    t.rule("a", Rule::new([Stmt::goto("nowhere")]));
    let error = c.apply(&t).unwrap_err();
    assert!(error.to_string().contains("add rule a goto nowhere"), "{error}");
    assert!(c.tables(Family::Ip).unwrap().is_empty());
}

#[test]
fn elements_are_added_and_deleted_in_chunks() {
    if !root() {
        return;
    }
    let ns = NetNs::create().unwrap();
    let mut c = Connection::open_in(&ns).unwrap();
    let mut t = Transaction::new(Family::Ip, "t");
    t.push(Command::AddTable { comment: String::new() });
    t.push(Command::AddSet(Set {
        name: "s".into(),
        key: vec![DataType::Addr],
        verdicts: false,
        timeout_seconds: None,
        comment: String::new(),
    }));
    let keys: Vec<Key> = (0..5000u32).map(|i| vec![Value::Addr(std::net::Ipv4Addr::from(i + 1).into())]).collect();
    let elements = keys.iter().map(|key| Element { key: key.clone(), verdict: None, comment: "c".into() }).collect();
    t.push(Command::AddElements { set: "s".into(), elements });
    c.apply(&t).unwrap();
    assert_eq!(c.element_keys(Family::Ip, "t", "s").unwrap().len(), 5000);
    let mut t = Transaction::new(Family::Ip, "t");
    t.push(Command::DeleteElements { set: "s".into(), keys });
    c.apply(&t).unwrap();
    assert!(c.element_keys(Family::Ip, "t", "s").unwrap().is_empty());
}

#[test]
fn long_names_do_not_overflow_a_message() {
    if !root() {
        return;
    }
    let ns = NetNs::create().unwrap();
    let mut c = Connection::open_in(&ns).unwrap();
    let mut t = Transaction::new(Family::Ip, "t");
    let chain = "c".repeat(240);
    t.push(Command::AddTable { comment: String::new() });
    t.push(Command::AddChain(Chain { name: chain.clone(), base: None }));
    t.push(Command::AddChain(Chain { name: "a".into(), base: None }));
    t.push(Command::AddSet(Set {
        name: "m".into(),
        key: vec![DataType::Addr],
        verdicts: true,
        timeout_seconds: None,
        comment: String::new(),
    }));
    let element = |i: u32| Element {
        key: vec![Value::Addr(std::net::Ipv4Addr::from(i + 1).into())],
        verdict: Some(Verdict::Goto(chain.clone())),
        comment: "x".repeat(250),
    };
    t.push(Command::AddElements { set: "m".into(), elements: (0..1000).map(element).collect() });
    t.rule("a", Rule::new([Stmt::RandomVerdict(vec![Verdict::Goto(chain.clone()); 1000])]));
    c.apply(&t).unwrap();
    assert_eq!(c.element_keys(Family::Ip, "t", "m").unwrap().len(), 1000);
    assert!(listing(&ns, Family::Ip).contains("numgen random mod 1000 vmap"));
}
