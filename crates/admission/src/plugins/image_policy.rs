//! ImagePolicyWebhook: a server outside says which images may run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meta::{Object, Status};
use parking_lot::Mutex;
use registry::Operation;
use rt::time::Instant;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::plugin::{Deps, Plugin, Request};
use crate::pod::{self, text};

/// Upstream's key of audit annotations.
const PREFIX: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// Answers that are remembered.
const CACHED: usize = 1024;
/// Tries after a broken connection or a server's failure, and how the pause grows.
const TRIES: u32 = 5;
const GROWTH: f64 = 1.5;
/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    image_policy: Raw,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Raw {
    kube_config_file: PathBuf,
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    retry_backoff: i64,
    default_allow: bool,
}

/// The plugin.
pub struct ImagePolicy {
    server: client::Webhook,
    allow_ttl: Duration,
    deny_ttl: Duration,
    pause: Duration,
    default_allow: bool,
    known: Mutex<HashMap<String, (Value, Instant)>>,
}

/// A number of the file: -1 disables, 0 is the default, and others have bounds.
fn setting(value: i64, unit: Duration, default: Duration, bounds: (Duration, Duration)) -> Result<Duration, String> {
    let count = match value {
        -1 => return Ok(Duration::ZERO),
        0 => return Ok(default),
        other => u32::try_from(other).ok(),
    };
    let found = count.and_then(|n| unit.checked_mul(n)).filter(|d| *d >= bounds.0 && *d <= bounds.1);
    found.ok_or_else(|| {
        let got = count.map_or_else(|| value.to_string(), |n| show(unit.saturating_mul(n)));
        format!("valid value is between {} and {}, got {got}", show(bounds.0), show(bounds.1))
    })
}

/// A duration as Go shows it, down to whole units.
fn show(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    match (seconds / 60, seconds % 60, nanos) {
        (0, 0, nanos) if nanos % 1_000_000 == 0 => format!("{}ms", nanos / 1_000_000),
        (0, 0, nanos) => format!("{nanos}ns"),
        (0, seconds, _) => format!("{seconds}s"),
        (minutes, seconds, _) if minutes < 60 => format!("{minutes}m{seconds}s"),
        (minutes, seconds, _) => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}

/// Makes the plugin as configured.
///
/// # Errors
/// There is no configuration, or it is wrong.
pub fn make(deps: &Deps) -> Result<Arc<dyn Plugin>, String> {
    let tree = deps.settings.configs.get("ImagePolicyWebhook").ok_or("no config specified")?;
    let raw = serde_json::from_value::<File>(tree.clone()).map_err(|e| e.to_string())?.image_policy;
    let (second, milli) = (Duration::from_secs(1), Duration::from_millis(1));
    let ttl = (second, Duration::from_secs(30 * 60));
    let pause = (Duration::from_nanos(1), Duration::from_secs(300));
    Ok(Arc::new(ImagePolicy {
        pause: setting(raw.retry_backoff, milli, Duration::from_millis(500), pause)?,
        allow_ttl: setting(raw.allow_ttl, second, Duration::from_secs(300), ttl)?,
        deny_ttl: setting(raw.deny_ttl, second, Duration::from_secs(30), ttl)?,
        default_allow: raw.default_allow,
        server: client::Webhook::load(&raw.kube_config_file, "kube-apiserver-admission").map_err(|e| e.to_string())?,
        known: Mutex::default(),
    }))
}

impl ImagePolicy {
    async fn ask(&self, review: &Value) -> Result<Value, String> {
        let mut pause = self.pause;
        for attempt in 1.. {
            let failure = match self.server.post(review, TIMEOUT).await {
                Ok((code, answer)) if (200..300).contains(&code) => return Ok(answer["status"].clone()),
                Ok((code, _)) if code < 500 && code != 429 => return Err(format!("Error contacting webhook: {code}")),
                Ok((code, _)) => format!("Error contacting webhook: {code}"),
                Err(error) => error,
            };
            if attempt == TRIES {
                return Err(failure);
            }
            rt::time::sleep(pause).await;
            pause = pause.mul_f64(GROWTH);
        }
        Err("not asked".into())
    }

    fn cached(&self, key: &str) -> Option<Value> {
        let known = self.known.lock();
        known.get(key).filter(|(_, end)| Instant::now() < *end).map(|(status, _)| status.clone())
    }

    fn remember(&self, key: String, status: &Value) {
        let ttl = if status["allowed"] == true { self.allow_ttl } else { self.deny_ttl };
        if ttl.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= CACHED {
            known.retain(|_, (_, end)| now < *end);
            if known.len() >= CACHED {
                known.clear();
            }
        }
        known.insert(key, (status.clone(), now + ttl));
    }
}

/// What the server is asked.
fn spec(request: &Request<'_>, pod: &Object) -> Value {
    let lists: &[&'static str] = match request.subresource {
        "" => &["containers", "initContainers"],
        _ => &["ephemeralContainers"],
    };
    let containers: Vec<Value> =
        pod::containers(pod::spec(pod), lists).iter().map(|(_, c)| json!({"image": text(c, &["image"])})).collect();
    let annotations: Map<String, Value> = pod
        .get(&["metadata", "annotations"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.contains(".image-policy.k8s.io/"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut spec = json!({"containers": containers, "namespace": request.namespace});
    if !annotations.is_empty() {
        spec["annotations"] = Value::Object(annotations);
    }
    spec
}

#[async_trait]
impl Plugin for ImagePolicy {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && request.is_any_of("", "pods")
            && matches!(request.subresource, "" | "ephemeralcontainers")
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let spec = spec(request, pod);
        let key = spec.to_string();
        let status = match self.cached(&key) {
            Some(status) => status,
            None => {
                let review = json!({"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview",
                    "metadata": {}, "spec": spec, "status": {"allowed": false}});
                match self.ask(&review).await {
                    Ok(status) => {
                        self.remember(key, &status);
                        status
                    }
                    Err(failure) if self.default_allow => {
                        tracing::warn!(failure, "image policy webhook failed, failing open");
                        request.warnings.annotate(&format!("{PREFIX}failed-open"), "true");
                        return Ok(());
                    }
                    Err(failure) => return Err(request.forbidden(Some(pod), failure)),
                }
            }
        };
        for (key, value) in status.get("auditAnnotations").and_then(Value::as_object).into_iter().flatten() {
            request.warnings.annotate(&format!("{PREFIX}{key}"), value.as_str().unwrap_or_default());
        }
        if status["allowed"] == true {
            return Ok(());
        }
        let cause = match status["reason"].as_str().unwrap_or_default() {
            "" => "one or more images rejected by webhook backend".to_owned(),
            reason => format!("image policy webhook backend denied one or more images: {reason}"),
        };
        Err(request.forbidden(Some(pod), cause))
    }
}
