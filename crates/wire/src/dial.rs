//! Connecting by name, without the C library's resolver, which a static binary cannot use.
//!
//! Every place that turns a host's name into addresses comes here: literals, then `/etc/hosts` and this machine's own
//! name, then the servers of `/etc/resolv.conf`, which is read for each question, as pods and nodes change it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use hyper_util::client::legacy::connect::dns;
use tokio::net::TcpStream;

/// The addresses of a host: an address, with or without brackets, or a name.
///
/// # Errors
/// There is no such name (kind `NotFound`, in the words of Go's resolver), or no server answers.
pub async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(vec![address]);
    }
    if own_name().is_some_and(|own| own.eq_ignore_ascii_case(host)) {
        return Ok(own_addresses(host));
    }
    let failed = |why: String| io::Error::other(format!("lookup {host}: {why}"));
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    match resolver.map_err(|e| failed(e.to_string()))?.lookup_ip(host).await {
        Ok(found) => Ok(found.iter().collect()),
        Err(error) if error.is_no_records_found() => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no such host")))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

fn own_name() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned())
}

/// A machine knows its own name even where nobody else does (`libnss-myhostname` does the same).
fn own_addresses(host: &str) -> Vec<IpAddr> {
    let hosts = Hosts::from_system().unwrap_or_default();
    let lookup = |kind| hosts.lookup_static_host(&Query::query(Name::from_utf8(host).ok()?, kind));
    let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(lookup);
    let found: Vec<IpAddr> =
        found.flat_map(|l| l.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>()).collect();
    if found.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { found }
}

/// Connects to a host, by the first of its addresses that answers.
///
/// # Errors
/// As [`resolve`]; or the last address' failure.
pub async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no such host"));
    for address in resolve(host).await? {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// [`resolve`] for hyper's connectors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Names;

impl tower_service::Service<dns::Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        Box::pin(async move {
            let found = resolve(name.as_str()).await?;
            // The connector puts the port in.
            Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn resolves_what_needs_no_server() {
        assert_eq!(resolve("10.1.2.3").await.unwrap(), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        assert_eq!(resolve("[::1]").await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        assert!(resolve("localhost").await.unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
        assert!(!resolve(&own_name().unwrap()).await.unwrap().is_empty());
    }
}
