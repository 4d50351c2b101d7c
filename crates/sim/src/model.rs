//! The cluster as the store's log tells it, and what must hold at each of its revisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rt::Shutdown;
use rt::time::Instant;
use serde_json::Value;
use store::{Event, EventKind, KeyRange, Store, WatchMessage, WatchRequest};

use crate::note;
use crate::transport::Weather;
use crate::tree::{active, cpu, millis, name, number, over, owner, text, uid};

/// For how long a limit that was lowered still excuses: caches may be that old.
const WINDOW: Duration = Duration::from_secs(120);
/// For how long a creation that was answered wrongly excuses a pod too many.
const LOST_WINDOW: Duration = Duration::from_secs(400);
/// Kinds that are not looked at: their names in the store.
const UNREAD: [&str; 3] = ["events", "leases", "masterleases"];

/// A limit over time.
#[derive(Default)]
struct Limit(Vec<(Instant, i64)>);

impl Limit {
    fn set(&mut self, value: i64) {
        if self.0.last().is_none_or(|(_, last)| *last != value) {
            self.0.push((Instant::now(), value));
        }
    }

    /// The highest that it was within the window.
    fn recent(&self) -> i64 {
        let ends = self.0.iter().skip(1).map(|(at, _)| Some(*at)).chain([None]);
        let within = self.0.iter().zip(ends).filter(|(_, end)| end.is_none_or(|end| end.elapsed() <= WINDOW));
        within.map(|((_, value), _)| *value).max().unwrap_or(0)
    }
}

/// See the module.
pub struct Model {
    objects: BTreeMap<String, Value>,
    limits: BTreeMap<String, Limit>,
    head: i64,
    changed: Instant,
    /// Revisions at which pods changed.
    pub pod_revisions: Vec<i64>,
    violations: Vec<String>,
    weather: Arc<Weather>,
}

/// The resource in a key of the store: `/registry/pods/ns/name` has `pods`.
fn resource(key: &str) -> &str {
    let rest = key.strip_prefix("/registry/").unwrap_or_default();
    rest.split('/').next().unwrap_or_default()
}

impl Model {
    /// An empty cluster.
    pub fn new(weather: Arc<Weather>) -> Self {
        Self {
            objects: BTreeMap::new(),
            limits: BTreeMap::new(),
            head: 1,
            changed: Instant::now(),
            pod_revisions: Vec::new(),
            violations: Vec::new(),
            weather,
        }
    }

    /// The objects under a prefix of the store, such as `pods` or `services/specs`.
    pub fn all<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let prefix = format!("/registry/{prefix}/");
        let from = self.objects.range(prefix.clone()..);
        from.take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, object)| object)
    }

    /// Every object that was read.
    pub fn everything(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.objects.iter().map(|(key, object)| (key.as_str(), object))
    }

    /// The pods that an owner controls.
    pub fn pods_of<'a>(&'a self, owner_uid: &'a str) -> impl Iterator<Item = &'a Value> {
        self.all("pods").filter(move |pod| owner(pod).is_some_and(|(_, uid)| uid == owner_uid))
    }

    /// The newest revision.
    pub fn head(&self) -> i64 {
        self.head
    }

    /// The time since anything but leases and events changed.
    pub fn quiet(&self) -> Duration {
        self.changed.elapsed()
    }

    /// What was wrong so far.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Notes that something is wrong.
    pub fn violate(&mut self, what: String) {
        note!("VIOLATION at revision {}: {what}", self.head);
        if self.violations.len() < 20 {
            self.violations.push(format!("revision {}: {what}", self.head));
        }
    }

    fn apply(&mut self, revision: i64, events: &[Event]) {
        if revision != self.head + 1 {
            self.violate(format!("revision {revision} follows {}", self.head));
        }
        self.head = revision;
        for event in events {
            let key = String::from_utf8_lossy(&event.kv.key).into_owned();
            let put = event.kind == EventKind::Put;
            let hash = rt::hash::fnv32a(&event.kv.value);
            note!("{revision} {} {key} {hash:08x}", if put { "put" } else { "delete" });
            if UNREAD.contains(&resource(&key)) {
                continue;
            }
            self.changed = Instant::now();
            if resource(&key) == "pods" {
                self.pod_revisions.push(revision);
            }
            let new = if put { schema::codec::decode_protobuf(&event.kv.value).ok() } else { None };
            let new = new.map(|object| Value::Object(object.body));
            let old = match &new {
                Some(new) => self.objects.insert(key.clone(), new.clone()),
                None => self.objects.remove(&key),
            };
            if let Some(new) = new {
                self.check(resource(&key), old.as_ref(), &new);
            }
        }
    }

    fn check(&mut self, resource: &str, old: Option<&Value>, new: &Value) {
        let old = old.filter(|old| uid(old) == uid(new));
        match resource {
            "pods" => self.check_pod(old, new),
            "deployments" => {
                let surge = number(new, "/spec/strategy/rollingUpdate/maxSurge").unwrap_or(0);
                let limit = number(new, "/spec/replicas").unwrap_or(1) + surge;
                self.limit(new, limit);
            }
            "replicasets" => self.check_replica_set(old, new),
            "statefulsets" => self.limit(new, number(new, "/spec/replicas").unwrap_or(1)),
            "daemonsets" => {
                let surge = number(new, "/spec/updateStrategy/rollingUpdate/maxSurge").unwrap_or(0);
                self.limit(new, 1 + surge);
            }
            "jobs" => self.check_job(old, new),
            _ => {}
        }
    }

    fn limit(&mut self, of: &Value, value: i64) {
        self.limits.entry(uid(of).to_owned()).or_default().set(value);
    }

    fn recent(&self, uid: &str) -> i64 {
        self.limits.get(uid).map_or(0, Limit::recent)
    }

    /// How many pods too many are excused in a namespace.
    fn excused(&self, of: &Value) -> i64 {
        i64::try_from(self.weather.lost_pods(text(of, "/metadata/namespace"), LOST_WINDOW)).unwrap_or(i64::MAX)
    }

    /// How many pods too many a namespace may ever have had: each of them may have succeeded.
    pub fn too_many(&self, of: &Value) -> i64 {
        i64::try_from(self.weather.ever_lost_pods(text(of, "/metadata/namespace"))).unwrap_or(i64::MAX)
    }

    fn check_pod(&mut self, old: Option<&Value>, new: &Value) {
        let (was, node) = (old.map_or("", |o| text(o, "/spec/nodeName")), text(new, "/spec/nodeName"));
        if !was.is_empty() && was != node {
            self.violate(format!("pod {} moved from node {was} to {node:?}", name(new)));
        }
        if let Some(old) = old
            && over(old)
            && text(old, "/status/phase") != text(new, "/status/phase")
        {
            let phases = (text(old, "/status/phase"), text(new, "/status/phase"));
            self.violate(format!("pod {} went from {} to {}", name(new), phases.0, phases.1));
        }
        if old.is_none() {
            self.check_slot(new);
        }
        if was.is_empty() && !node.is_empty() {
            self.check_node(new, node);
        }
    }

    /// A pod was created: there must have been room for it.
    fn check_slot(&mut self, pod: &Value) {
        let Some((kind, owner)) = owner(pod) else { return };
        if !matches!(kind, "ReplicaSet" | "Job" | "StatefulSet") {
            return;
        }
        let count = self.pods_of(owner).filter(|pod| active(pod)).count();
        let (limit, excused) = (self.recent(owner), self.excused(pod));
        if i64::try_from(count).unwrap_or(i64::MAX) > limit + excused {
            let what = format!("{kind} {owner} has {count} active pods with {}, {limit} are wanted", name(pod));
            self.violate(what);
        }
    }

    /// A pod was bound: its node must have room.
    fn check_node(&mut self, pod: &Value, node: &str) {
        let on_node: Vec<&Value> = self.all("pods").filter(|p| text(p, "/spec/nodeName") == node && !over(p)).collect();
        let asked: i64 = on_node.iter().map(|p| millis(p)).sum();
        let count = on_node.len();
        let same = owner(pod).filter(|(kind, _)| *kind == "DaemonSet").map(|(_, uid)| {
            let same = on_node.iter().filter(|p| active(p) && owner(p).is_some_and(|(_, u)| u == uid)).count();
            (i64::try_from(same).unwrap_or(i64::MAX), self.recent(uid) + self.excused(pod))
        });
        let machine = self.objects.get(&format!("/registry/minions/{node}"));
        let room = machine.map(|m| (cpu(text(m, "/status/allocatable/cpu")), text(m, "/status/allocatable/pods")));
        if let Some((room, pods)) = room {
            let pods: usize = pods.parse().unwrap_or(usize::MAX);
            if asked > room || count > pods {
                self.violate(format!("node {node} has {room}m and {pods} pods; {count} pods ask for {asked}m"));
            }
        }
        if let Some((same, limit)) = same.filter(|(same, limit)| same > limit) {
            self.violate(format!("node {node} has {same} pods of the DaemonSet of {}, {limit} at most", name(pod)));
        }
    }

    fn check_replica_set(&mut self, old: Option<&Value>, new: &Value) {
        let replicas = |set: &Value| number(set, "/spec/replicas").unwrap_or(1);
        self.limit(new, replicas(new));
        if old.is_some_and(|old| replicas(old) >= replicas(new)) {
            return;
        }
        let Some((_, deployment)) = owner(new) else { return };
        let sets = self.all("replicasets").filter(|set| owner(set).is_some_and(|(_, uid)| uid == deployment));
        let sum: i64 = sets.map(replicas).sum();
        let limit = self.recent(deployment);
        if limit > 0 && sum > limit {
            self.violate(format!("the sets of the Deployment of {} want {sum} pods, {limit} at most", name(new)));
        }
    }

    fn check_job(&mut self, old: Option<&Value>, new: &Value) {
        let suspended = new.pointer("/spec/suspend") == Some(&Value::Bool(true));
        self.limit(new, if suspended { 0 } else { number(new, "/spec/parallelism").unwrap_or(1) });
        let succeeded = number(new, "/status/succeeded").unwrap_or(0);
        if let Some(wanted) = number(new, "/spec/completions")
            && succeeded > wanted + self.too_many(new)
        {
            self.violate(format!("job {} counts {succeeded} successes of {wanted}", name(new)));
        }
        if let Some(before) = old.and_then(|old| number(old, "/status/succeeded"))
            && before > succeeded
        {
            self.violate(format!("job {} counted {before} successes and then {succeeded}", name(new)));
        }
        if text(new, "/spec/completionMode") == "Indexed" {
            let indexes = indexes(text(new, "/status/completedIndexes"));
            if indexes != succeeded {
                self.violate(format!("job {} counts {succeeded} successes of {indexes} indexes", name(new)));
            }
        }
        for condition in ["Complete", "Failed"] {
            let was = old.is_some_and(|old| crate::tree::is(old, condition));
            if was && !crate::tree::is(new, condition) {
                self.violate(format!("job {} was {condition} and is no more", name(new)));
            }
        }
    }

    /// Checks what a watcher of pods got in one stretch: everything after `from` up to its last event, once and in order.
    pub fn check_watch(&mut self, from: i64, got: &[i64]) {
        let Some(last) = got.last() else { return };
        let begin = self.pod_revisions.partition_point(|revision| *revision <= from);
        let end = self.pod_revisions.partition_point(|revision| revision <= last);
        if self.pod_revisions[begin..end] != *got {
            let missing: Vec<&i64> = self.pod_revisions[begin..end].iter().filter(|r| !got.contains(r)).collect();
            let extra: Vec<&i64> = got.iter().filter(|r| !self.pod_revisions[begin..end].contains(r)).collect();
            self.violate(format!("a watch from {from} to {last} lacked {missing:?} and had besides {extra:?}"));
        }
    }
}

/// How many indexes are in `0,2-4`.
fn indexes(text: &str) -> i64 {
    let ranges = text.split(',').filter(|part| !part.is_empty());
    ranges
        .map(|range| match range.split_once('-') {
            None => 1,
            Some((from, to)) => to.parse::<i64>().unwrap_or(0) - from.parse::<i64>().unwrap_or(0) + 1,
        })
        .sum()
}

/// Follows the log until told to stop.
pub async fn follow(store: Arc<dyn Store>, model: Arc<Mutex<Model>>, shutdown: Shutdown) {
    let request = WatchRequest::new(KeyRange::all()).from(2).without_prev_kv();
    let mut watcher = match store.watch(request).await {
        Ok(watcher) => watcher,
        Err(error) => return model.lock().violate(format!("the log cannot be followed: {error}")),
    };
    while let Some(message) = shutdown.run(watcher.next()).await {
        match message {
            Some(Ok(WatchMessage::Events { revision, events })) => model.lock().apply(revision, &events),
            Some(Ok(WatchMessage::Progress { .. })) => {}
            Some(Err(error)) => return model.lock().violate(format!("the log broke: {error}")),
            None => return,
        }
    }
}
