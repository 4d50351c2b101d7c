//! Watch fan-out: many watches on the pods of one namespace, and how fast events reach all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use client::Client;
use futures::future::try_join_all;
use http::Method;
use http_body_util::BodyExt;
use tokio::sync::Notify;

use crate::subject::Subject;
use crate::table::Measured;
use crate::{Options, load};

/// What [`measure`] measures.
pub(crate) const NAMES: [&str; 1] = ["fan-out"];

const WATCHES: usize = 1000;
/// Pods created, each an event for every watch.
const EVENTS: usize = 300;
const WRITERS: usize = 8;
const LIMIT: Duration = Duration::from_secs(120);

/// Counts what arrives at all watches.
struct Counter {
    seen: AtomicUsize,
    all: Notify,
}

impl Counter {
    fn add(&self, events: usize) {
        if self.seen.fetch_add(events, Ordering::Relaxed) + events >= WATCHES * EVENTS {
            self.all.notify_one();
        }
    }
}

/// Measures through the API of a fresh control plane.
pub(crate) async fn measure(subject: &Subject, options: &Options, measured: &mut Measured) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..options.connections.max(WRITERS) {
        clients.push(subject.client()?);
    }
    let first = clients.first().context("--connections must be at least 1")?.clone();
    load::prepare(&first).await?;
    let counter = Arc::new(Counter { seen: AtomicUsize::new(0), all: Notify::new() });
    let started = (0..WATCHES).map(|number| watch(&clients[number % clients.len()], counter.clone()));
    let watches = try_join_all(started).await?;
    let begun = Instant::now();
    let writers = clients.iter().take(WRITERS).enumerate().map(|(writer, client)| write(client, writer));
    let written = async { try_join_all(writers).await.map(drop) };
    let arrived = async {
        if tokio::time::timeout(LIMIT, counter.all.notified()).await.is_err() {
            bail!("only {} of {} events arrived", counter.seen.load(Ordering::Relaxed), WATCHES * EVENTS);
        }
        Ok(())
    };
    tokio::try_join!(written, arrived)?;
    measured.set("fan-out", (WATCHES * EVENTS) as f64 / begun.elapsed().as_secs_f64());
    watches.into_iter().for_each(|watch| watch.abort());
    Ok(())
}

/// Starts one watch, whose events are counted by their line ends and not decoded.
async fn watch(client: &Client, counter: Arc<Counter>) -> Result<tokio::task::JoinHandle<()>> {
    let path = format!("/api/v1/namespaces/{}/pods?watch=1&resourceVersion=0", load::NAMESPACE);
    let answer = client.raw(Method::GET, &path, None, "application/json", Bytes::new()).await.context("watch")?;
    if !answer.status().is_success() {
        bail!("watch: {}", answer.status());
    }
    let mut body = answer.into_body();
    Ok(tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            let ends = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
            counter.add(ends);
        }
    }))
}

async fn write(client: &Client, writer: usize) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}/pods", load::NAMESPACE);
    for number in (writer..EVENTS).step_by(WRITERS) {
        let pod = load::pod(number);
        client.call(Method::POST, &path, Some("application/json"), pod).await.context("create a pod")?;
    }
    Ok(())
}
