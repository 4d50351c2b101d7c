use super::*;

fn zone() -> Zone {
    let ip = |t: &str| -> IpAddr { t.parse().unwrap() };
    let port = |name: &str, protocol, port| Port { name: name.into(), protocol, port };
    let mut z = Zone::new("cluster.local", 30, vec!["10.96.0.0/16".parse().unwrap()], vec![ip("10.96.0.10")]).unwrap();
    assert_eq!(
        ask(&z, "10-0-0-1.anywhere.pod.cluster.local.", RecordType::A),
        "A 10.0.0.1",
        "namespaces are not known yet"
    );
    z.namespaces_are_known();
    z.set_namespace("default", true);
    z.set_namespace("kube-system", true);
    z.set_service(
        ServiceName::new("default", "web"),
        Some(Service::Cluster {
            ips: vec![ip("10.96.0.20"), ip("fd96::20")],
            ports: vec![port("http", "tcp", 80), port("dns", "udp", 53)],
        }),
    );
    z.set_service(
        ServiceName::new("default", "v4only"),
        Some(Service::Cluster { ips: vec![ip("10.96.0.21")], ports: vec![port("", "tcp", 80)] }),
    );
    z.set_service(ServiceName::new("default", "head"), Some(Service::Headless));
    z.set_service(ServiceName::new("default", "empty"), Some(Service::Headless));
    z.set_service(ServiceName::new("default", "ext"), Some(Service::External("www.example.org".into())));
    let endpoint = |address: &str, hostname: &str| Endpoint { ip: ip(address), hostname: hostname.into() };
    z.set_slice(
        "default/head-1",
        Some(Slice {
            service: ServiceName::new("default", "head"),
            ports: vec![port("http", "tcp", 8080)],
            endpoints: vec![endpoint("10.244.0.5", "pod-a"), endpoint("10.244.0.6", "")],
        }),
    );
    z
}

/// The answer in a line: records without owner and TTL, sorted as given.
fn ask(z: &Zone, name: &str, kind: RecordType) -> String {
    let text = |records: &[Record]| {
        records.iter().map(|r| format!("{} {}", r.data.record_type(), r.data)).collect::<Vec<_>>().join(", ")
    };
    match z.answer(&Name::from_ascii(name).unwrap(), kind) {
        Answer::Records(records, _) => text(&records),
        Answer::Alias(record, target) => format!("{} -> {target}", text(&[*record])),
        Answer::NoData => "nodata".into(),
        Answer::NxDomain => "nxdomain".into(),
        Answer::NotOurs => "not ours".into(),
    }
}

#[test]
fn the_specification_by_cases() {
    use RecordType as T;
    let z = zone();
    for (name, kind, expected) in [
        ("dns-version.cluster.local.", T::TXT, "TXT 1.1.0"),
        ("web.default.svc.cluster.local.", T::A, "A 10.96.0.20"),
        ("WEB.Default.SVC.Cluster.Local.", T::A, "A 10.96.0.20"),
        ("web.default.svc.cluster.local.", T::AAAA, "AAAA fd96::20"),
        ("v4only.default.svc.cluster.local.", T::AAAA, "nodata"),
        ("web.default.svc.cluster.local.", T::MX, "nodata"),
        ("web.other.svc.cluster.local.", T::A, "nxdomain"),
        ("no.default.svc.cluster.local.", T::A, "nxdomain"),
        ("_http._tcp.web.default.svc.cluster.local.", T::SRV, "SRV 0 100 80 web.default.svc.cluster.local."),
        ("_dns._udp.web.default.svc.cluster.local.", T::SRV, "SRV 0 100 53 web.default.svc.cluster.local."),
        ("_dns._tcp.web.default.svc.cluster.local.", T::SRV, "nxdomain"),
        ("_http._tcp.web.default.svc.cluster.local.", T::A, "nodata"),
        ("_tcp.web.default.svc.cluster.local.", T::SRV, "nodata"),
        ("_http._tcp.v4only.default.svc.cluster.local.", T::SRV, "nxdomain"),
        ("head.default.svc.cluster.local.", T::A, "A 10.244.0.5, A 10.244.0.6"),
        ("head.default.svc.cluster.local.", T::AAAA, "nodata"),
        ("pod-a.head.default.svc.cluster.local.", T::A, "A 10.244.0.5"),
        ("10-244-0-6.head.default.svc.cluster.local.", T::A, "A 10.244.0.6"),
        ("pod-b.head.default.svc.cluster.local.", T::A, "nxdomain"),
        (
            "_http._tcp.head.default.svc.cluster.local.",
            T::SRV,
            "SRV 0 50 8080 10-244-0-6.head.default.svc.cluster.local., SRV 0 50 8080 pod-a.head.default.svc.cluster.local.",
        ),
        ("empty.default.svc.cluster.local.", T::A, "nxdomain"),
        ("ext.default.svc.cluster.local.", T::A, "CNAME www.example.org. -> www.example.org."),
        ("ext.default.svc.cluster.local.", T::CNAME, "CNAME www.example.org."),
        ("10-244-0-9.default.pod.cluster.local.", T::A, "A 10.244.0.9"),
        ("fd44--9.default.pod.cluster.local.", T::AAAA, "AAAA fd44::9"),
        ("10-244-0-9.nowhere.pod.cluster.local.", T::A, "nxdomain"),
        ("nonsense.default.pod.cluster.local.", T::A, "nxdomain"),
        ("default.svc.cluster.local.", T::A, "nodata"),
        ("nowhere.svc.cluster.local.", T::A, "nxdomain"),
        ("svc.cluster.local.", T::A, "nodata"),
        ("cluster.local.", T::NS, "NS ns.dns.cluster.local."),
        ("ns.dns.cluster.local.", T::A, "A 10.96.0.10"),
        ("cluster.local.", T::A, "nodata"),
        ("google.com.default.svc.cluster.local.", T::A, "nxdomain"),
        ("20.0.96.10.in-addr.arpa.", T::PTR, "PTR web.default.svc.cluster.local."),
        ("5.0.244.10.in-addr.arpa.", T::PTR, "PTR pod-a.head.default.svc.cluster.local."),
        (
            "0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.d.f.ip6.arpa.",
            T::PTR,
            "PTR web.default.svc.cluster.local.",
        ),
        ("99.0.96.10.in-addr.arpa.", T::PTR, "nxdomain"),
        ("8.8.8.8.in-addr.arpa.", T::PTR, "not ours"),
        ("www.example.org.", T::A, "not ours"),
        ("notcluster.local.", T::A, "not ours"),
    ] {
        assert_eq!(ask(&z, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn what_goes_is_forgotten() {
    let mut z = zone();
    z.set_slice("default/head-1", None);
    assert_eq!(ask(&z, "head.default.svc.cluster.local.", RecordType::A), "nxdomain");
    assert_eq!(ask(&z, "5.0.244.10.in-addr.arpa.", RecordType::PTR), "not ours");
    z.set_service(ServiceName::new("default", "web"), None);
    assert_eq!(ask(&z, "web.default.svc.cluster.local.", RecordType::A), "nxdomain");
    assert_eq!(ask(&z, "20.0.96.10.in-addr.arpa.", RecordType::PTR), "nxdomain");
    for name in ["head", "empty", "ext", "v4only"] {
        z.set_service(ServiceName::new("default", name), None);
    }
    assert!(z.entries.is_empty() && z.by_ip.is_empty() && z.slice_owner.is_empty());
    z.set_service(ServiceName::new("default", "ext"), Some(Service::External("a.b".into())));
    z.set_service(
        ServiceName::new("default", "ext"),
        Some(Service::Cluster { ips: vec!["10.96.0.30".parse().unwrap()], ports: vec![] }),
    );
    assert_eq!(ask(&z, "ext.default.svc.cluster.local.", RecordType::A), "A 10.96.0.30");
}
