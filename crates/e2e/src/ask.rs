//! Asking HTTP servers, one connection for each question, so that each may be answered by another pod.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Questions until as many servers as wanted must have answered.
const MAX_QUESTIONS: usize = 200;

/// The body of one answer.
///
/// # Errors
/// No connection, or no answer in time.
pub async fn once(address: SocketAddr) -> Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.context("connect")?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n").await.context("send")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.context("read the answer")?;
        anyhow::Ok(text.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned())
    };
    match tokio::time::timeout(LIMIT, exchange).await {
        Ok(answer) => answer.with_context(|| format!("ask {address}")),
        Err(_) => bail!("no answer from {address} in {} s", LIMIT.as_secs()),
    }
}

/// Asks until `wanted` different answers have come.
///
/// # Errors
/// A question was not answered, or too few servers answer.
pub async fn until_different(address: SocketAddr, wanted: usize) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for _ in 0..MAX_QUESTIONS {
        seen.insert(once(address).await?);
        if seen.len() >= wanted {
            return Ok(seen);
        }
    }
    bail!("{MAX_QUESTIONS} questions to {address} were answered by {seen:?} only, not by {wanted} servers")
}
