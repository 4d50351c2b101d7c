//! The server: UDP and TCP in, the zone or the forwarder, an answer out.

use crate::convert;
use crate::forward::{Failed, Forwarder, StubDomain};
use crate::message::{Refuse, Request, truncated};
use crate::zone::{Answer, Zone};
use api::Kind;
use api::k8s::core::v1 as core;
use api::k8s::discovery::v1::EndpointSlice;
use client::Client;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use informer::{Delta, Factory, Informer};
use ipnet::IpNet;
use parking_lot::RwLock;
use rt::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

mod ready;

/// TCP connections at most.
const MAX_CONNECTIONS: usize = 256;
/// How long a TCP client may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How long a CNAME chain may be.
const MAX_ALIASES: usize = 8;

/// The server's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses to listen on, UDP and TCP; single ones rather than 0.0.0.0, so that answers come from where the
    /// question went.
    pub listen: Vec<SocketAddr>,
    /// The cluster's domain.
    pub domain: String,
    /// Time to live of the zone's records.
    pub ttl: u32,
    /// Resolvers for everything else.
    pub upstreams: Vec<SocketAddr>,
    /// Domains with resolvers of their own.
    pub stub_domains: Vec<StubDomain>,
    /// Bytes of forwarded answers to keep.
    pub cache_bytes: usize,
    /// The cluster's own ranges: reverse names in them are never forwarded.
    pub reverse_ranges: Vec<IpNet>,
    /// Where `/health` and `/ready` answer, if anywhere.
    pub health_address: Option<SocketAddr>,
}

impl Config {
    /// A server for `domain` on these addresses with the usual values and no upstream.
    pub fn new(listen: Vec<SocketAddr>, domain: impl Into<String>) -> Self {
        Self {
            listen,
            domain: domain.into(),
            ttl: 30,
            upstreams: Vec::new(),
            stub_domains: Vec::new(),
            cache_bytes: 1 << 20,
            reverse_ranges: Vec::new(),
            health_address: None,
        }
    }
}

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The domain is not a name.
    #[error("cluster domain \"{domain}\"")]
    Domain {
        /// The domain.
        domain: String,
        /// What is wrong.
        #[source]
        source: hickory_proto::ProtoError,
    },
    /// An address cannot be bound.
    #[error("DNS cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

struct Core {
    zone: RwLock<Zone>,
    forwarder: Forwarder,
}

/// A server attached to informers, not yet listening.
pub struct Server {
    config: Config,
    core: Arc<Core>,
    services: Informer<core::Service>,
    slices: Informer<EndpointSlice>,
    namespaces: Informer<core::Namespace>,
}

fn gone<T>(delta: &Delta<T>) -> bool {
    matches!(delta, Delta::Deleted(_))
}

/// Registers the server's handlers with a factory, which the caller starts (before or after).
///
/// # Errors
/// When the domain is not a name.
pub fn attach(config: Config, factory: &Factory) -> Result<Server, Error> {
    let core = Arc::new(core_of(&config)?);
    let services = factory.informer::<core::Service>();
    let to = core.clone();
    services.add_handler(move |delta| {
        let value = if gone(delta) { None } else { convert::service(delta.object()) };
        to.zone.write().set_service(convert::service_name(delta.object()), value);
    });
    let slices = factory.informer::<EndpointSlice>();
    let to = core.clone();
    slices.add_handler(move |delta| {
        let value = if gone(delta) { None } else { convert::slice(delta.object()) };
        to.zone.write().set_slice(&delta.object().key(), value);
    });
    let namespaces = factory.informer::<core::Namespace>();
    let to = core.clone();
    namespaces.add_handler(move |delta| to.zone.write().set_namespace(delta.object().name(), !gone(delta)));
    Ok(Server { config, core, services, slices, namespaces })
}

fn core_of(config: &Config) -> Result<Core, Error> {
    let own = config.listen.iter().map(SocketAddr::ip).collect();
    let zone = Zone::new(&config.domain, config.ttl, config.reverse_ranges.clone(), own)
        .map_err(|source| Error::Domain { domain: config.domain.clone(), source })?;
    // A server among its own upstreams would be a loop of one.
    let upstreams: Vec<SocketAddr> = config.upstreams.iter().copied().filter(|u| !config.listen.contains(u)).collect();
    Ok(Core {
        zone: RwLock::new(zone),
        forwarder: Forwarder::new(&upstreams, &config.stub_domains, config.cache_bytes),
    })
}

/// Runs a server with informers of its own until shutdown.
///
/// # Errors
/// When it cannot listen.
pub async fn serve(config: Config, client: Client, shutdown: Shutdown) -> Result<(), Error> {
    let factory = Factory::new(client);
    let server = attach(config, &factory)?;
    factory.start(&shutdown);
    server.serve(shutdown).await
}

impl Server {
    /// Listens, waits for the first lists (questions wait in the sockets meanwhile), and answers until shutdown.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), Error> {
        let sockets = bind(&self.config.listen).await?;
        let synced = ready::Flag::default();
        if let Some(address) = self.config.health_address {
            let bound = wire::bind(address, None).await.map_err(|source| Error::Listen { address, source })?;
            rt::spawn("dns-health", wire::serve(bound, Arc::new(synced.clone()), shutdown.clone()));
        }
        // Namespaces only tell names that cannot be from names that could: whoever may not list them still gets answers.
        let (core, namespaces) = (self.core.clone(), self.namespaces.clone());
        let known = async move {
            namespaces.synced().await;
            core.zone.write().namespaces_are_known();
        };
        rt::spawn("dns-namespaces", shutdown.run(known));
        let lists = async { tokio::join!(self.services.synced(), self.slices.synced()) };
        if shutdown.run(lists).await.is_none() {
            return Ok(());
        }
        synced.set();
        run(self.core, sockets, shutdown).await;
        Ok(())
    }
}

type Sockets = Vec<(UdpSocket, TcpListener)>;

async fn bind(addresses: &[SocketAddr]) -> Result<Sockets, Error> {
    let mut sockets = Vec::new();
    for address in addresses.iter().copied() {
        let fail = |source| Error::Listen { address, source };
        let udp = UdpSocket::bind(address).await.map_err(fail)?;
        // With port 0 (tests) both must have the same port.
        let chosen = udp.local_addr().map_err(fail)?;
        sockets.push((udp, TcpListener::bind(chosen).await.map_err(fail)?));
    }
    Ok(sockets)
}

async fn run(core: Arc<Core>, sockets: Sockets, shutdown: Shutdown) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = Vec::new();
    for (udp, tcp) in sockets {
        tasks.push(rt::spawn("dns-udp", shutdown.run(serve_udp(core.clone(), Arc::new(udp)))));
        tasks.push(rt::spawn(
            "dns-tcp",
            shutdown.run(serve_tcp(core.clone(), tcp, connections.clone(), shutdown.clone())),
        ));
    }
    let prober = core.clone();
    tasks.push(rt::spawn("dns-loop-probe", shutdown.run(async move { prober.forwarder.probe().await })));
    for task in tasks {
        // A task ends by shutdown only; a panic in one was reported by the runtime.
        let _ = task.await;
    }
}

async fn serve_udp(core: Arc<Core>, socket: Arc<UdpSocket>) {
    let mut buf = vec![0; 4096];
    loop {
        // An error here is about an earlier answer (unreachable client), not about the socket.
        let Ok((len, peer)) = socket.recv_from(&mut buf).await else { continue };
        match core.answer_now(&buf[..len], true) {
            Now::Answer(bytes) => drop(socket.send_to(&bytes, peer).await),
            Now::Silence => {}
            Now::Later(request, first) => {
                let (core, socket, bytes) = (core.clone(), socket.clone(), buf[..len].to_vec());
                rt::spawn("dns-forward", async move {
                    let answer = core.answer_later(&bytes, &request, first, true).await;
                    let _ = socket.send_to(&answer, peer).await;
                });
            }
        }
    }
}

async fn serve_tcp(core: Arc<Core>, listener: TcpListener, connections: Arc<Semaphore>, shutdown: Shutdown) {
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (core, shutdown) = (core.clone(), shutdown.clone());
                rt::spawn("dns-connection", async move {
                    let _permit = permit;
                    shutdown.run(connection(core, stream)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                rt::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Requests one after the other, as most clients send them.
async fn connection(core: Arc<Core>, mut stream: TcpStream) {
    loop {
        let read = async {
            let len = stream.read_u16().await?;
            let mut bytes = vec![0; usize::from(len)];
            stream.read_exact(&mut bytes).await?;
            std::io::Result::Ok(bytes)
        };
        let Ok(Ok(bytes)) = rt::time::timeout(IDLE, read).await else { return };
        let answer = match core.answer_now(&bytes, false) {
            Now::Answer(answer) => answer,
            Now::Silence => return,
            Now::Later(request, first) => core.answer_later(&bytes, &request, first, false).await,
        };
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend(answer);
        if !matches!(rt::time::timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// What can be said without asking anybody.
enum Now {
    Answer(Vec<u8>),
    Silence,
    /// Somebody must be asked; with the aliases found so far.
    Later(Request, Option<(Vec<Record>, Name)>),
}

impl Core {
    fn answer_now(&self, bytes: &[u8], udp: bool) -> Now {
        let request = match Request::decode(bytes, udp) {
            Ok(request) => request,
            Err(Refuse::Drop) => return Now::Silence,
            Err(Refuse::Code(answer)) => return Now::Answer(answer),
        };
        if !matches!(request.query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return Now::Answer(request.empty(ResponseCode::Refused));
        }
        if self.forwarder.is_probe(request.query.name()) {
            return Now::Answer(request.empty(ResponseCode::NXDomain));
        }
        match self.resolve(request.query.name(), request.query.query_type()) {
            Local::Done(code, answers, authorities, additionals) => {
                Now::Answer(request.respond(code, true, answers, authorities, additionals))
            }
            Local::Elsewhere(aliases, name) if !aliases.is_empty() => Now::Later(request, Some((aliases, name))),
            Local::Elsewhere(..) => match self.forwarder.cached(bytes, request.edns == Some(true), !udp) {
                Some(answer) if answer.len() > request.limit => Now::Answer(truncated(&answer)),
                Some(answer) => Now::Answer(answer),
                None => Now::Later(request, None),
            },
        }
    }

    /// Follows aliases within the zone.
    fn resolve(&self, name: &Name, kind: RecordType) -> Local {
        let zone = self.zone.read();
        let mut aliases = Vec::new();
        let mut name = name.clone();
        loop {
            match zone.answer(&name, kind) {
                Answer::Records(mut records, additionals) => {
                    spread(&mut records);
                    aliases.append(&mut records);
                    return Local::Done(ResponseCode::NoError, aliases, Vec::new(), additionals);
                }
                Answer::Alias(record, target) => {
                    aliases.push(*record);
                    name = target;
                    if aliases.len() > MAX_ALIASES {
                        return Local::Done(ResponseCode::ServFail, Vec::new(), Vec::new(), Vec::new());
                    }
                }
                Answer::NoData => return Local::Done(ResponseCode::NoError, aliases, vec![zone.soa()], Vec::new()),
                Answer::NxDomain => return Local::Done(ResponseCode::NXDomain, aliases, vec![zone.soa()], Vec::new()),
                Answer::NotOurs => return Local::Elsewhere(aliases, name),
            }
        }
    }

    async fn answer_later(
        &self,
        bytes: &[u8],
        request: &Request,
        aliases: Option<(Vec<Record>, Name)>,
        udp: bool,
    ) -> Vec<u8> {
        let dnssec = request.edns == Some(true);
        let Some((mut records, target)) = aliases else {
            return match self.forwarder.ask(bytes, request.query.name(), dnssec, !udp).await {
                Ok(answer) if answer.len() > request.limit => truncated(&answer),
                Ok(answer) => answer,
                Err(failed) => request.empty(code_of(failed)),
            };
        };
        // The alias holds even when its target cannot be found out.
        if let Some(found) = self.target(&target, request).await {
            records.extend(found);
        }
        request.respond(ResponseCode::NoError, true, records, Vec::new(), Vec::new())
    }

    /// The records of an alias' target, from elsewhere.
    async fn target(&self, name: &Name, request: &Request) -> Option<Vec<Record>> {
        let mut message = Message::query();
        message.metadata.id = rt::rand::u64() as u16;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name.clone(), request.query.query_type()));
        let bytes = message.to_vec().ok()?;
        let answer = match self.forwarder.cached(&bytes, false, false) {
            Some(answer) => answer,
            None => self.forwarder.ask(&bytes, name, false, false).await.ok()?,
        };
        Message::from_vec(&answer).ok().map(|m| m.answers)
    }
}

enum Local {
    Done(ResponseCode, Vec<Record>, Vec<Record>, Vec<Record>),
    Elsewhere(Vec<Record>, Name),
}

fn code_of(failed: Failed) -> ResponseCode {
    match failed {
        Failed::NoServer => ResponseCode::Refused,
        Failed::Unreachable | Failed::Loop | Failed::Busy => ResponseCode::ServFail,
    }
}

/// Begins the list of addresses somewhere else each time, as clients take the first.
fn spread(records: &mut [Record]) {
    if records.len() > 1 {
        let by = (rt::rand::u64() % records.len() as u64) as usize;
        records.rotate_left(by);
    }
}

#[cfg(test)]
mod tests;
