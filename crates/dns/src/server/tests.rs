//! A real server on loopback, an upstream of our own, and a client over UDP and TCP.

use super::*;
use crate::model::{Endpoint, Port, Service, ServiceName, Slice};
use hickory_proto::op::Edns;
use hickory_proto::rr::RData;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An upstream that knows `*.example.org`, answers NXDOMAIN else, and counts.
async fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut buf = [0; 4096];
        while let Ok((len, peer)) = socket.recv_from(&mut buf).await {
            let query = Message::from_vec(&buf[..len]).unwrap();
            let name = query.queries[0].name().clone();
            let mut answer = query.into_response();
            if name.to_string().to_lowercase().ends_with("example.org.") {
                count.fetch_add(1, Ordering::Relaxed);
                answer.add_answer(Record::from_rdata(name, 60, RData::from(IpAddr::from([192, 0, 2, 1]))));
            } else {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let _ = socket.send_to(&answer.to_vec().unwrap(), peer).await;
        }
    });
    (address, asked)
}

async fn start(config: &Config) -> (SocketAddr, Arc<Core>, Shutdown) {
    let core = Arc::new(core_of(config).unwrap());
    let sockets = bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let address = sockets[0].0.local_addr().unwrap();
    let shutdown = Shutdown::new();
    tokio::spawn(run(core.clone(), sockets, shutdown.clone()));
    (address, core, shutdown)
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut m = Message::query();
    m.metadata.id = 4242;
    m.metadata.recursion_desired = true;
    m.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    m
}

async fn udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
    let mut buf = [0; 65535];
    let len = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buf)).await.unwrap().unwrap();
    Message::from_vec(&buf[..len]).unwrap()
}

async fn tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = message.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let len = stream.read_u16().await.unwrap();
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn fill(core: &Core) {
    let mut zone = core.zone.write();
    let ports = vec![Port { name: "http".into(), protocol: "tcp", port: 80 }];
    zone.set_service(
        ServiceName::new("ns", "web"),
        Some(Service::Cluster { ips: vec!["10.96.0.20".parse().unwrap()], ports: ports.clone() }),
    );
    zone.set_service(ServiceName::new("ns", "ext"), Some(Service::External("www.example.org".into())));
    zone.set_service(ServiceName::new("ns", "chain"), Some(Service::External("web.ns.svc.cluster.local".into())));
    zone.set_service(ServiceName::new("ns", "circle"), Some(Service::External("circle.ns.svc.cluster.local".into())));
    zone.set_service(ServiceName::new("ns", "big"), Some(Service::Headless));
    let endpoints = (0..120).map(|i| Endpoint { ip: IpAddr::from([10, 244, 0, i]), hostname: String::new() }).collect();
    zone.set_slice("ns/big-1", Some(Slice { service: ServiceName::new("ns", "big"), ports, endpoints }));
}

#[tokio::test]
async fn the_zone_over_udp_and_tcp() {
    let (server, core, shutdown) = start(&Config::new(vec![], "cluster.local")).await;
    fill(&core);
    let answer = udp(server, &query("Web.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(
        (answer.metadata.id, answer.metadata.authoritative, answer.metadata.recursion_available),
        (4242, true, true)
    );
    assert_eq!(answer.answers[0].data.to_string(), "10.96.0.20");
    assert_eq!(answer.queries[0].name().to_ascii(), "Web.ns.svc.cluster.local.", "the client's case");

    let missing = udp(server, &query("no.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!((missing.metadata.response_code, missing.authorities.len()), (ResponseCode::NXDomain, 1));
    let nodata = udp(server, &query("web.ns.svc.cluster.local.", RecordType::AAAA)).await;
    assert_eq!(
        (nodata.metadata.response_code, nodata.answers.len(), nodata.authorities.len()),
        (ResponseCode::NoError, 0, 1)
    );

    let big = query("big.ns.svc.cluster.local.", RecordType::A);
    let cut = udp(server, &big).await;
    assert!(cut.metadata.truncation && !cut.answers.is_empty());
    assert_eq!(tcp(server, &big).await.answers.len(), 120);
    let mut large = big.clone();
    large.set_edns({
        let mut e = Edns::new();
        e.set_max_payload(4096);
        e
    });
    assert!(udp(server, &large).await.answers.len() > cut.answers.len());
    let srv = udp(server, &query("_http._tcp.web.ns.svc.cluster.local.", RecordType::SRV)).await;
    assert_eq!((srv.answers.len(), srv.additionals.len()), (1, 1));

    let refused = udp(server, &query("www.example.org.", RecordType::A)).await;
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused, "no upstream");
    let chain = udp(server, &query("chain.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(chain.answers.len(), 2);
    let circle = udp(server, &query("circle.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(circle.metadata.response_code, ResponseCode::ServFail);
    shutdown.cancel();
}

#[tokio::test]
async fn forwarding_aliases_and_the_cache() {
    let (up, asked) = upstream().await;
    let (stub, stub_asked) = upstream().await;
    let mut config = Config::new(vec![], "cluster.local");
    config.upstreams = vec![up];
    config.stub_domains = vec![StubDomain { domain: "stub.example.org".into(), servers: vec![stub] }];
    let (server, core, shutdown) = start(&config).await;
    fill(&core);
    for name in ["www.example.org.", "WWW.example.org."] {
        let answer = udp(server, &query(name, RecordType::A)).await;
        assert_eq!((answer.metadata.id, answer.answers.len()), (4242, 1));
        assert_eq!(answer.queries[0].name().to_ascii(), name);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the second from the cache");
    udp(server, &query("a.stub.example.org.", RecordType::A)).await;
    assert_eq!((asked.load(Ordering::Relaxed), stub_asked.load(Ordering::Relaxed)), (1, 1));
    let alias = udp(server, &query("ext.ns.svc.cluster.local.", RecordType::A)).await;
    let kinds: Vec<RecordType> = alias.answers.iter().map(Record::record_type).collect();
    assert_eq!(kinds, [RecordType::CNAME, RecordType::A]);
    let nothing = udp(server, &query("example.net.", RecordType::A)).await;
    assert_eq!(nothing.metadata.response_code, ResponseCode::NXDomain);
    shutdown.cancel();
}

#[tokio::test]
async fn a_loop_and_a_dead_upstream_are_answered_at_once() {
    // The upstream of the first server is the first server, by way of a port forwarded to it.
    let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::new(vec![], "cluster.local");
    config.upstreams = vec![relay.local_addr().unwrap()];
    let (server, _core, shutdown) = start(&config).await;
    tokio::spawn(async move {
        let mut buf = [0; 4096];
        while let Ok((len, peer)) = relay.recv_from(&mut buf).await {
            let answer = udp(server, &Message::from_vec(&buf[..len]).unwrap()).await;
            let _ = relay.send_to(&answer.to_vec().unwrap(), peer).await;
        }
    });
    // The probe runs at start; once it has come back, the loop is known.
    let mut code = ResponseCode::NoError;
    for _ in 0..50 {
        code = udp(server, &query("www.example.org.", RecordType::A)).await.metadata.response_code;
        if code == ResponseCode::ServFail {
            break;
        }
    }
    assert_eq!(code, ResponseCode::ServFail);
    shutdown.cancel();

    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    config.upstreams = vec![closed];
    let (server, _core, shutdown) = start(&config).await;
    let begun = std::time::Instant::now();
    for _ in 0..5 {
        let answer = udp(server, &query("www.example.org.", RecordType::A)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
    shutdown.cancel();
}
