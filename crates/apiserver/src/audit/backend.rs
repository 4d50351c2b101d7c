//! A back end: a sink, fed in the request's path or from a queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rt::Shutdown;
use rt::sync::mpsc;
use telemetry::metrics::CounterVec;

use super::trail::Event;

/// What takes events in the end.
#[async_trait]
pub(crate) trait Sink: Send + Sync {
    /// Writes events, in their order.
    ///
    /// # Errors
    /// They are lost; why.
    async fn write(&self, events: &[Arc<Event>]) -> Result<(), String>;
}

/// How a back end is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// From a queue, some at once; a full queue loses events.
    Batch,
    /// In the request's path; failures are counted.
    Blocking,
    /// In the request's path; a request whose first event fails is refused.
    BlockingStrict,
}

/// The queue's measures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub buffer: usize,
    pub size: usize,
    pub wait: Duration,
    /// Batches per second and at once; none for no limit.
    pub throttle: Option<(f64, u32)>,
}

pub(crate) struct Backend {
    name: &'static str,
    mode: Mode,
    sink: Arc<dyn Sink>,
    /// Bytes above which an event loses its bodies.
    truncate: Option<usize>,
    queue: Option<mpsc::Sender<Arc<Event>>>,
    errors: CounterVec,
    events: Arc<telemetry::metrics::Counter>,
}

impl Backend {
    /// Starts the queue's task when there is one; at shutdown it writes what is left.
    pub fn start(
        name: &'static str,
        sink: Arc<dyn Sink>,
        (mode, truncate): (Mode, Option<usize>),
        batch: Batch,
        shutdown: &Shutdown,
    ) -> Self {
        let errors = telemetry::metrics::counter_vec(
            "apiserver_audit_error_total",
            "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
            &["plugin"],
        );
        let events = telemetry::metrics::counter_vec(
            "apiserver_audit_event_total",
            "Counter of audit events generated and sent to the audit backend.",
            &[],
        )
        .with(&[]);
        let queue = (mode == Mode::Batch).then(|| {
            let (sender, receiver) = mpsc::channel(batch.buffer.max(1));
            let task = Drain { name, sink: sink.clone(), batch, errors: errors.clone() };
            rt::spawn("audit", task.run(receiver, shutdown.clone()));
            sender
        });
        Self { name, mode, sink, truncate, queue, errors, events }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the event was taken.
    pub async fn take(&self, event: Arc<Event>) -> bool {
        self.events.add(1);
        let event = match self.truncate {
            None => event,
            Some(limit) => match event.within(limit) {
                Some(event) => event,
                None => {
                    self.errors.with(&["truncate"]).add(1);
                    tracing::error!(plugin = "truncate", "event is too large even after truncating");
                    return true;
                }
            },
        };
        let taken = match &self.queue {
            Some(queue) => queue.try_send(event).map_err(|_| "the queue is full".to_owned()),
            None => self.sink.write(&[event]).await,
        };
        if let Err(error) = &taken {
            self.errors.with(&[self.name]).add(1);
            tracing::error!(plugin = self.name, error, "audit event is lost");
        }
        taken.is_ok()
    }
}

struct Drain {
    name: &'static str,
    sink: Arc<dyn Sink>,
    batch: Batch,
    errors: CounterVec,
}

impl Drain {
    async fn run(self, mut queue: mpsc::Receiver<Arc<Event>>, shutdown: Shutdown) {
        let mut tokens = self.batch.throttle.map_or(0.0, |(_, burst)| f64::from(burst));
        let mut filled = rt::time::Instant::now();
        loop {
            let first = match shutdown.run(queue.recv()).await {
                Some(Some(first)) => first,
                _ => break,
            };
            let mut batch = vec![first];
            let deadline = rt::time::Instant::now() + self.batch.wait;
            while batch.len() < self.batch.size {
                let left = deadline.saturating_duration_since(rt::time::Instant::now());
                match shutdown.run(rt::time::timeout(left, queue.recv())).await {
                    Some(Ok(Some(event))) => batch.push(event),
                    _ => break,
                }
            }
            if let Some((rate, burst)) = self.batch.throttle {
                tokens = (tokens + filled.elapsed().as_secs_f64() * rate).min(f64::from(burst));
                filled = rt::time::Instant::now();
                if tokens < 1.0 {
                    let pause = Duration::from_secs_f64((1.0 - tokens) / rate.max(f64::EPSILON));
                    shutdown.run(rt::time::sleep(pause)).await;
                }
                tokens -= 1.0;
            }
            self.write(&batch).await;
        }
        let mut rest = Vec::new();
        while let Ok(event) = queue.try_recv() {
            rest.push(event);
        }
        if !rest.is_empty() {
            self.write(&rest).await;
        }
    }

    async fn write(&self, batch: &[Arc<Event>]) {
        if let Err(error) = self.sink.write(batch).await {
            self.errors.with(&[self.name]).add(batch.len() as u64);
            tracing::error!(plugin = self.name, events = batch.len(), error, "audit events are lost");
        }
    }
}
