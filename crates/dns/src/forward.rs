//! Questions for others: stub domains' servers, else the upstream resolvers; the request's bytes go out as they came.

use crate::cache::{self, Cache};
use crate::message::question_end;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// How long one server may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long a server that failed repeatedly is left alone.
const PENALTY: Duration = Duration::from_secs(2);
/// Failures in a row that make a server count as down.
const FAILURES: u32 = 2;
/// Questions under way at most; more are refused.
const MAX_IN_FLIGHT: usize = 1000;

/// A domain with servers of its own.
#[derive(Debug, Clone)]
pub struct StubDomain {
    /// The domain.
    pub domain: String,
    /// Its servers.
    pub servers: Vec<SocketAddr>,
}

struct Upstream {
    address: SocketAddr,
    failures: AtomicU32,
    down_until: Mutex<Option<Instant>>,
}

impl Upstream {
    fn up(&self, now: Instant) -> bool {
        self.down_until.lock().is_none_or(|until| now >= until)
    }

    fn failed(&self) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
            *self.down_until.lock() = Some(Instant::now() + PENALTY);
        }
    }

    fn answered(&self) {
        self.failures.store(0, Ordering::Relaxed);
        *self.down_until.lock() = None;
    }
}

/// The forwarder.
pub struct Forwarder {
    upstreams: Vec<Upstream>,
    stubs: Vec<(Name, Vec<Upstream>)>,
    cache: Mutex<Cache>,
    in_flight: Semaphore,
    /// The name that this server asks its upstreams to find out whether they ask it back.
    probe: Name,
    looping: AtomicBool,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// Nobody to ask.
    NoServer,
    /// Nobody answered.
    Unreachable,
    /// Our upstream asks us.
    Loop,
    /// Too many questions under way.
    Busy,
}

fn upstreams(addresses: &[SocketAddr]) -> Vec<Upstream> {
    addresses
        .iter()
        .map(|a| Upstream { address: *a, failures: AtomicU32::new(0), down_until: Mutex::new(None) })
        .collect()
}

impl Forwarder {
    /// With these servers, and a cache of so many bytes. Stub domains that are not names are left out with a warning.
    pub fn new(servers: &[SocketAddr], stubs: &[StubDomain], cache_bytes: usize) -> Self {
        let mut named: Vec<(Name, Vec<Upstream>)> = Vec::new();
        for stub in stubs {
            match Name::from_ascii(&stub.domain) {
                Ok(mut name) => {
                    name.set_fqdn(true);
                    named.push((name, upstreams(&stub.servers)));
                }
                Err(error) => tracing::warn!(domain = stub.domain, %error, "ignored a stub domain"),
            }
        }
        // The longest match first.
        named.sort_by_key(|(name, _)| std::cmp::Reverse(name.num_labels()));
        let probe = format!("{:x}.{:x}.loop-probe.corten.", rt::rand::u64(), rt::rand::u64());
        Self {
            upstreams: upstreams(servers),
            stubs: named,
            cache: Mutex::new(Cache::new(cache_bytes)),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            probe: Name::from_ascii(probe).unwrap_or_default(),
            looping: AtomicBool::new(false),
        }
    }

    /// An answer from the cache.
    pub fn cached(&self, request: &[u8], dnssec: bool, tcp: bool) -> Option<Vec<u8>> {
        let key = cache::key(request, dnssec, tcp)?;
        self.cache.lock().get(&key, request, Instant::now())
    }

    /// Whether this is our own probe come back; from then on upstreams are not asked any more.
    pub fn is_probe(&self, name: &Name) -> bool {
        let ours = *name == self.probe;
        if ours && !self.looping.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the upstream resolver sends its questions back to this server; questions outside the cluster are refused"
            );
        }
        ours
    }

    /// Asks the upstreams for a name that only this server would ask for.
    pub async fn probe(&self) {
        let mut message = Message::query();
        message.metadata.id = rt::rand::u64() as u16;
        message.add_query(Query::query(self.probe.clone(), RecordType::HINFO));
        let Ok(bytes) = message.to_vec() else { return };
        for upstream in &self.upstreams {
            // Whatever is answered: what counts is whether the question comes back.
            let _ = tokio::time::timeout(ATTEMPT, by_udp(upstream.address, &bytes)).await;
        }
    }

    /// Forwards a request and gives the answer's bytes, ready for the client.
    pub async fn ask(&self, request: &[u8], name: &Name, dnssec: bool, tcp: bool) -> Result<Vec<u8>, Failed> {
        if self.looping.load(Ordering::Relaxed) {
            return Err(Failed::Loop);
        }
        let _permit = self.in_flight.try_acquire().map_err(|_| Failed::Busy)?;
        let servers =
            self.stubs.iter().find(|(domain, _)| domain.zone_of(name)).map_or(&self.upstreams, |(_, servers)| servers);
        if servers.is_empty() {
            return Err(Failed::NoServer);
        }
        let answer = exchange(servers, request, tcp).await?;
        if let Some(key) = cache::key(request, dnssec, tcp) {
            self.cache.lock().put(key, &answer, Instant::now());
        }
        Ok(answer)
    }
}

/// Asks one server after the other, those that are up, beginning with the first: two rounds at most.
async fn exchange(servers: &[Upstream], request: &[u8], tcp: bool) -> Result<Vec<u8>, Failed> {
    for _round in 0..2 {
        let now = Instant::now();
        for upstream in servers.iter().filter(|u| u.up(now)) {
            let attempt = async {
                if tcp { by_tcp(upstream.address, request).await } else { by_udp(upstream.address, request).await }
            };
            match tokio::time::timeout(ATTEMPT, attempt).await {
                Ok(Ok(answer)) => {
                    upstream.answered();
                    return Ok(answer);
                }
                Ok(Err(error)) => {
                    tracing::debug!(server = %upstream.address, %error, "the upstream resolver failed");
                    upstream.failed();
                }
                Err(_) => upstream.failed(),
            }
        }
    }
    Err(Failed::Unreachable)
}

/// Whether an answer belongs to the request: same id, an answer, the same question.
fn fits(request: &[u8], id: [u8; 2], answer: &[u8]) -> bool {
    let (Some(end), Some(answered)) = (question_end(request), question_end(answer)) else { return false };
    answer[..2] == id
        && answer[2] & 0x80 != 0
        && end == answered
        && request[12..end].eq_ignore_ascii_case(&answer[12..end])
}

/// The request under a fresh id, so that an answer can only be guessed together with the socket's random port.
fn renumbered(request: &[u8]) -> ([u8; 2], Vec<u8>) {
    let id = (rt::rand::u64() as u16).to_be_bytes();
    let mut out = request.to_vec();
    out[..2].copy_from_slice(&id);
    (id, out)
}

async fn by_udp(server: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let (id, bytes) = renumbered(request);
    socket.send(&bytes).await?;
    let mut buf = vec![0; 4096];
    loop {
        let got = socket.recv(&mut buf).await?;
        if got >= 12 && fits(request, id, &buf[..got]) {
            buf.truncate(got);
            buf[..2].copy_from_slice(&request[..2]);
            return Ok(buf);
        }
    }
}

async fn by_tcp(server: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (id, bytes) = renumbered(request);
    let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    if answer.len() < 12 || !fits(request, id, &answer) {
        return Err(std::io::Error::other("an answer to something else"));
    }
    answer[..2].copy_from_slice(&request[..2]);
    Ok(answer)
}
