//! Events about objects.
//!
//! As upstream's correlator: a spammed object is limited to a burst of 25 events and one more every five minutes,
//! repeated events become one with a count, and more than ten that differ only in their message become one
//! "combined" event. Recording never fails and never waits: a full queue drops events and says so once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::{Event, EventSource, ObjectReference};
use api::metav1::{ObjectMeta, Time};
use client::{Client, PatchKind};
use rt::sync::mpsc;
use rt::time::Instant;
use rt::{HashMap, HashSet, Shutdown};
use serde_json::json;

const QUEUE: usize = 1000;
const REMEMBERED: usize = 4096;
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;
/// From so many different messages on, events of one reason are combined.
const SIMILAR: usize = 10;
/// For how long messages count as near one another.
const SIMILAR_FOR: Duration = Duration::from_secs(600);

/// Whether the event is news or trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// News.
    Normal,
    /// Trouble.
    Warning,
}

struct Record {
    object: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
}

/// Records events of one component. Clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    send: mpsc::Sender<Record>,
    /// Events dropped since the queue was last found empty.
    dropped: Arc<AtomicU64>,
}

/// The reference that events about an object carry.
pub fn reference<T: Kind>(object: &T) -> ObjectReference {
    ObjectReference {
        api_version: Some(T::API_VERSION.to_owned()),
        kind: Some(T::KIND.to_owned()),
        name: Some(object.name().to_owned()),
        namespace: Some(object.namespace().to_owned()).filter(|ns| !ns.is_empty()),
        uid: Some(object.uid().to_owned()).filter(|uid| !uid.is_empty()),
        resource_version: Some(object.resource_version().to_owned()).filter(|rv| !rv.is_empty()),
        ..ObjectReference::default()
    }
}

impl Recorder {
    /// A recorder that writes as `component` (on `host`, for node agents) until told to stop.
    pub fn start(client: Client, component: &str, host: Option<&str>, shutdown: Shutdown) -> Self {
        let (send, receive) = mpsc::channel(QUEUE);
        let source = EventSource { component: Some(component.to_owned()), host: host.map(str::to_owned) };
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            client,
            source,
            known: HashMap::default(),
            order: VecDeque::new(),
            buckets: HashMap::default(),
            similar: HashMap::default(),
            dropped: dropped.clone(),
        };
        rt::spawn("event recorder", async move { shutdown.run(writer.run(receive)).await });
        Self { send, dropped }
    }

    /// Records an event about a typed object.
    pub fn event<T: Kind>(&self, object: &T, kind: EventType, reason: &str, message: impl Into<String>) {
        self.event_for(self::reference(object), kind, reason, message);
    }

    /// Records an event about a reference, such as one container of a pod.
    pub fn event_for(&self, object: ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        let record = Record { object, kind, reason: reason.to_owned(), message: message.into() };
        if self.send.try_send(record).is_err() && self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(reason, "events are dropped: the recorder's queue is full or closed");
        }
    }
}

type Identity = (String, String, String, EventType, String, String);

struct Known {
    namespace: String,
    name: String,
    count: i32,
}

/// Events that differ only in their message.
struct Similar {
    messages: HashSet<String>,
    at: Instant,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

struct Writer {
    client: Client,
    source: EventSource,
    known: HashMap<Identity, Known>,
    order: VecDeque<Identity>,
    buckets: HashMap<String, Bucket>,
    similar: HashMap<Identity, Similar>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    async fn run(mut self, mut receive: mpsc::Receiver<Record>) {
        while let Some(record) = receive.recv().await {
            self.write(record).await;
            if receive.is_empty() {
                let dropped = self.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!(dropped, "events were dropped while the recorder's queue was full");
                }
            }
        }
    }

    /// Whether the event is one too many of its like, and is to be combined with them.
    fn combined(&mut self, like: &Identity, message: &str) -> bool {
        if self.similar.len() > REMEMBERED {
            self.similar.clear();
        }
        let now = Instant::now();
        let fresh = || Similar { messages: HashSet::default(), at: now };
        let similar = self.similar.entry(like.clone()).or_insert_with(fresh);
        if now.duration_since(similar.at) > SIMILAR_FOR {
            similar.messages.clear();
        }
        similar.at = now;
        if similar.messages.len() + 1 >= SIMILAR && !similar.messages.contains(message) {
            return true;
        }
        similar.messages.insert(message.to_owned());
        false
    }

    fn admitted(&mut self, object: &ObjectReference) -> bool {
        if self.buckets.len() > REMEMBERED {
            self.buckets.clear();
        }
        let key = format!("{:?}/{:?}/{:?}", object.kind, object.namespace, object.name);
        let now = Instant::now();
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: BURST, at: now });
        let gone = now.duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + gone * REFILL_PER_SECOND).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    async fn write(&mut self, mut record: Record) {
        if !self.admitted(&record.object) {
            return;
        }
        let object = &record.object;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let mut identity: Identity = (
            format!("{}/{}", text(&object.namespace), text(&object.name)),
            text(&object.uid),
            text(&object.field_path),
            record.kind,
            record.reason.clone(),
            String::new(),
        );
        let combined = self.combined(&identity, &record.message);
        if combined {
            record.message = format!("(combined from similar events): {}", record.message);
        } else {
            identity.5.clone_from(&record.message);
        }
        let message = combined.then_some(record.message.as_str());
        let written = match self.known.get_mut(&identity) {
            Some(known) => {
                known.count += 1;
                repeat(&self.client, known, message).await
            }
            None => false,
        };
        if !written {
            self.create(identity, record).await;
        }
    }

    async fn create(&mut self, identity: Identity, record: Record) {
        let now = Time(rt::time::now());
        let namespace = record.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let name =
            format!("{}.{:x}", record.object.name.as_deref().unwrap_or_default(), now.0.as_nanosecond().unsigned_abs());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: record.object,
            reason: Some(record.reason),
            message: Some(record.message),
            type_: Some(format!("{:?}", record.kind)),
            source: Some(self.source.clone()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            ..Event::default()
        };
        match self.client.create(&event).await {
            Ok(_) => self.remember(identity, Known { namespace, name, count: 1 }),
            Err(error) => tracing::debug!(error = error.chain(), "event not written"),
        }
    }

    fn remember(&mut self, identity: Identity, known: Known) {
        if self.known.insert(identity.clone(), known).is_none() {
            self.order.push_back(identity);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Counts an event up; `false` when it is gone and must be made anew.
async fn repeat(client: &Client, known: &Known, message: Option<&str>) -> bool {
    let mut patch = json!({"count": known.count, "lastTimestamp": Time(rt::time::now())});
    if let Some(message) = message {
        patch["message"] = message.into();
    }
    let done = client.patch::<Event>(&known.namespace, &known.name, &PatchKind::Merge, &patch).await;
    !matches!(done, Err(error) if error.is_not_found())
}
