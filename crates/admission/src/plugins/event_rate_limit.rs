//! EventRateLimit: buckets for events by server, namespace, user, or source and object.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use meta::field::{Error, Path};
use meta::{Object, Status};
use parking_lot::Mutex;
use registry::Operation;
use rt::time::Instant;
use serde::Deserialize;

use crate::plugin::{Deps, Plugin, Request};

/// Buckets that are remembered where the configuration says nothing.
const DEFAULT_CACHE: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    #[serde(default)]
    limits: Vec<Limit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Limit {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    qps: i32,
    #[serde(default)]
    burst: i32,
    #[serde(default)]
    cache_size: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

/// A token bucket.
struct Bucket {
    tokens: f64,
    filled: Instant,
    used: u64,
}

/// The buckets of one limit, the least used forgotten first.
#[derive(Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    by_use: BTreeMap<u64, String>,
    uses: u64,
}

struct Enforcer {
    kind: Kind,
    qps: f64,
    burst: f64,
    most: usize,
    buckets: Mutex<Buckets>,
}

impl Enforcer {
    fn key(&self, request: &Request<'_>, object: Option<&Object>) -> String {
        match self.kind {
            Kind::Server => String::new(),
            Kind::Namespace => request.namespace.to_owned(),
            Kind::User => request.user.name.clone(),
            Kind::SourceAndObject => {
                let Some(event) = object else { return String::new() };
                // events.k8s.io has other names for two of them.
                let either = |a: [&str; 2], b: &[&str]| match event.get_str(&a) {
                    "" => event.get_str(b).to_owned(),
                    text => text.to_owned(),
                };
                let about = |field: &str| either(["involvedObject", field], &["regarding", field]);
                [
                    either(["source", "component"], &["reportingController"]),
                    event.get_str(&["source", "host"]).to_owned(),
                    about("kind"),
                    about("namespace"),
                    about("name"),
                    about("uid"),
                    about("apiVersion"),
                ]
                .concat()
            }
        }
    }

    /// Takes a token, if there is one.
    fn accept(&self, key: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        buckets.uses += 1;
        let at = buckets.uses;
        if !buckets.by_key.contains_key(key) {
            if buckets.by_key.len() >= self.most
                && let Some((_, oldest)) = buckets.by_use.pop_first()
            {
                buckets.by_key.remove(&oldest);
            }
            buckets.by_key.insert(key.to_owned(), Bucket { tokens: self.burst, filled: now, used: at });
        }
        let Some(bucket) = buckets.by_key.get_mut(key) else { return true };
        let past = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + past * self.qps).min(self.burst);
        bucket.filled = now;
        let accepted = bucket.tokens >= 1.0;
        if accepted {
            bucket.tokens -= 1.0;
        }
        let before = std::mem::replace(&mut bucket.used, at);
        buckets.by_use.remove(&before);
        buckets.by_use.insert(at, key.to_owned());
        accepted
    }
}

/// The plugin.
pub struct EventRateLimit(Vec<Enforcer>);

fn check(limit: &Limit, path: &Path, errors: &mut Vec<Error>) -> Option<Kind> {
    let kind = match limit.kind.as_str() {
        "Server" => Some(Kind::Server),
        "Namespace" => Some(Kind::Namespace),
        "User" => Some(Kind::User),
        "SourceAndObject" => Some(Kind::SourceAndObject),
        other => {
            let supported = ["Namespace", "Server", "SourceAndObject", "User"];
            errors.push(Error::not_supported(&path.child("type"), other, &supported));
            None
        }
    };
    for (field, value) in [("burst", limit.burst), ("qps", limit.qps)] {
        if value <= 0 {
            errors.push(Error::invalid(&path.child(field), value, "must be positive"));
        }
    }
    if kind != Some(Kind::Server) && limit.cache_size < 0 {
        errors.push(Error::invalid(&path.child("cacheSize"), limit.cache_size, "must not be negative"));
    }
    kind
}

/// Makes the plugin as configured.
///
/// # Errors
/// There is no configuration, or it is wrong.
pub fn make(deps: &Deps) -> Result<Arc<dyn Plugin>, String> {
    let kinds = [("eventratelimit.admission.k8s.io/v1alpha1", "Configuration")];
    let found: Option<Configuration> = deps.settings.configs.typed("EventRateLimit", &kinds)?;
    let configuration = found.ok_or("no config specified")?;
    let path = Path::new("limits");
    let mut errors = Vec::new();
    if configuration.limits.is_empty() {
        errors.push(Error::invalid(&path, serde_json::json!([]), "must not be empty"));
    }
    let mut enforcers = Vec::new();
    for (i, limit) in configuration.limits.iter().enumerate() {
        let Some(kind) = check(limit, &path.index(i), &mut errors) else { continue };
        let most = match usize::try_from(limit.cache_size).unwrap_or(0) {
            0 => DEFAULT_CACHE,
            given => given,
        };
        let (qps, burst) = (f64::from(limit.qps), f64::from(limit.burst));
        enforcers.push(Enforcer { kind, qps, burst, most, buckets: Mutex::default() });
    }
    match errors.len() {
        0 => Ok(Arc::new(EventRateLimit(enforcers))),
        1 => Err(errors.remove(0).to_string()),
        _ => Err(format!("[{}]", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
    }
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && request.resource.resource == "events"
            && matches!(request.resource.group.as_str(), "" | "events.k8s.io")
            && !request.dry_run
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let now = Instant::now();
        let mut reached = Vec::new();
        for enforcer in &self.0 {
            let key = enforcer.key(request, object);
            if !enforcer.accept(&key, now) {
                reached.push(format!("limit reached on type {:?} for key {key}", enforcer.kind));
            }
        }
        match reached.len() {
            0 => Ok(()),
            1 => Err(Status::too_many_requests(reached.remove(0), 0)),
            _ => Err(Status::too_many_requests(format!("[{}]", reached.join(", ")), 0)),
        }
    }
}
