//! Looks at the kubelets, no more often than somebody wants to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Error, ListParams, Resource};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use http::Method;
use meta::{GroupVersionResource, Object};
use parking_lot::{Mutex, RwLock};
use rt::Shutdown;
use rt::time::Instant;

use crate::samples::{Batch, Samples};

/// How old samples may be: metrics-server's usual resolution.
pub const INTERVAL: Duration = Duration::from_secs(15);
/// Samples older than this do not make a rate.
const COLD: Duration = Duration::from_secs(60);
/// The window of a cold question.
const FIRST_WINDOW: Duration = Duration::from_millis(1_100);
/// How long after the last question kubelets are still looked at.
const PATIENCE: Duration = Duration::from_secs(120);
const NODE_TIMEOUT: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 16;

/// The samples and who fetches them.
pub(crate) struct Scraper {
    client: Client,
    shutdown: Shutdown,
    pub(crate) samples: RwLock<Samples>,
    asked: Mutex<Option<Instant>>,
    /// When the last look ended; held while looking, so that many questions share a look.
    looked: rt::sync::Mutex<Option<Instant>>,
    following: AtomicBool,
}

impl Scraper {
    pub(crate) fn new(client: Client, shutdown: Shutdown) -> Self {
        Self {
            client,
            shutdown,
            samples: RwLock::default(),
            asked: Mutex::default(),
            looked: rt::sync::Mutex::default(),
            following: AtomicBool::new(false),
        }
    }

    /// Lists objects' metadata.
    pub(crate) async fn metadata(
        &self,
        resource: &str,
        namespace: &str,
        params: ListParams,
    ) -> Result<Vec<Object>, Error> {
        let gvr = GroupVersionResource::new("", "v1", resource);
        let of = Resource { gvr: &gvr, namespace: Some(namespace).filter(|ns| !ns.is_empty()) };
        let params = ListParams { metadata_only: true, ..params };
        self.client.list_objects(&of, &params).await.map(|list| list.items)
    }

    /// Ends when the samples are fresh.
    pub(crate) async fn fresh(self: &Arc<Self>) {
        let asked = Instant::now();
        *self.asked.lock() = Some(asked);
        let mut looked = self.looked.lock().await;
        match *looked {
            Some(at) if at.elapsed() < INTERVAL => {}
            Some(at) if at.elapsed() < COLD => self.look().await,
            _ => {
                self.look().await;
                rt::time::sleep(FIRST_WINDOW).await;
                self.look().await;
            }
        }
        if looked.is_none_or(|at| at.elapsed() >= INTERVAL) {
            *looked = Some(Instant::now());
        }
        drop(looked);
        if !self.following.swap(true, Ordering::AcqRel) {
            let (scraper, shutdown) = (self.clone(), self.shutdown.clone());
            rt::spawn("metrics scraper", async move { shutdown.run(scraper.follow()).await });
        }
    }

    /// Keeps the samples fresh while somebody asks.
    async fn follow(self: Arc<Self>) {
        loop {
            rt::time::sleep(INTERVAL).await;
            if self.asked.lock().is_none_or(|at| at.elapsed() > PATIENCE) {
                self.following.store(false, Ordering::Release);
                return;
            }
            let mut looked = self.looked.lock().await;
            self.look().await;
            *looked = Some(Instant::now());
        }
    }

    async fn look(&self) {
        let nodes = match self.metadata("nodes", "", ListParams::default()).await {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::warn!(error = error.chain(), "cannot list the nodes to look at");
                return;
            }
        };
        let mut batch = Batch::default();
        let mut asks: Vec<BoxFuture<'_, (String, Option<Bytes>)>> = Vec::with_capacity(nodes.len());
        for node in &nodes {
            asks.push(self.ask(node.name().to_owned()).boxed());
        }
        let mut answers = stream::iter(asks).buffer_unordered(AT_ONCE);
        while let Some((node, text)) = answers.next().await {
            if let Some(text) = text {
                let now = rt::time::now().as_millisecond();
                batch.read(&node, &String::from_utf8_lossy(&text), now);
            }
        }
        self.samples.write().put(batch);
    }

    async fn ask(&self, node: String) -> (String, Option<Bytes>) {
        let path = format!("/api/v1/nodes/{node}/proxy/metrics/resource");
        let answer = rt::time::timeout(NODE_TIMEOUT, self.client.call(Method::GET, &path, None, Bytes::new())).await;
        let text = match answer {
            Ok(Ok(text)) => Some(text),
            Ok(Err(error)) => {
                tracing::debug!(node, error = error.chain(), "a kubelet tells no metrics");
                None
            }
            Err(_) => {
                tracing::debug!(node, "a kubelet is too slow to tell metrics");
                None
            }
        };
        (node, text)
    }
}
