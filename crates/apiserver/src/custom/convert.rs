//! Conversion between versions of a custom resource.

use std::sync::Arc;
use std::time::Duration;

use admission::webhook::{Caller, HttpCaller, Target};
use base64::Engine;
use meta::{GroupVersionKind, Object, Status};
use registry::{Access, Registry};
use serde_json::{Value, json};

/// How long a conversion webhook may take, as upstream.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How a definition converts.
pub(super) struct Converter {
    webhook: Option<Webhook>,
}

struct Webhook {
    caller: HttpCaller,
    target: Target,
}

impl Converter {
    /// Reads `spec.conversion`.
    pub fn new(spec: &Value, registry: &Arc<Registry>) -> Self {
        let wanted = spec.pointer("/conversion/strategy").and_then(Value::as_str) == Some("Webhook");
        let client = spec.pointer("/conversion/webhook/clientConfig").filter(|_| wanted);
        let webhook = client.and_then(target).map(|target| {
            let access = Arc::new(Access::new(registry.clone()));
            Webhook { caller: HttpCaller::new(access), target }
        });
        Self { webhook }
    }

    /// Converts an object.
    ///
    /// # Errors
    /// The webhook failed.
    pub fn convert(&self, object: &mut Object, to: &GroupVersionKind) -> Result<(), Status> {
        let from = object.gvk();
        if from == *to {
            return Ok(());
        }
        let Some(webhook) = &self.webhook else {
            object.set_gvk(to);
            return Ok(());
        };
        let failed = |why: String| Status::internal(format!("conversion webhook for {from} failed: {why}"));
        let converted = webhook.call(object, to).map_err(failed)?;
        let mut fresh = Object::from_value(converted).ok_or_else(|| failed("answer holds no object".into()))?;
        if fresh.gvk() != *to {
            return Err(failed(format!(
                "returned invalid converted object at index 0: invalid groupVersion (expected {}, received {})",
                to.api_version(),
                fresh.api_version()
            )));
        }
        keep_metadata(&mut fresh, object);
        *object = fresh;
        Ok(())
    }
}

/// A webhook may change labels and annotations, nothing else of the metadata.
fn keep_metadata(fresh: &mut Object, old: &Object) {
    let mut metadata = old.metadata().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match fresh.metadata().and_then(|m| m.get(field)) {
            Some(value) => drop(metadata.insert(field.into(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    fresh.body.insert("metadata".into(), Value::Object(metadata));
}

fn target(client: &Value) -> Option<Target> {
    let bundle = client.get("caBundle").and_then(Value::as_str).unwrap_or("");
    let ca = base64::engine::general_purpose::STANDARD.decode(bundle).ok()?;
    let ca = String::from_utf8(ca).ok()?;
    if let Some(service) = client.get("service").filter(|s| s.is_object()) {
        let text = |key: &str| service.get(key).and_then(Value::as_str).unwrap_or("");
        let (namespace, name) = (text("namespace").to_owned(), text("name").to_owned());
        let port = service.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok()).unwrap_or(443);
        let path = format!("/{}", text("path").trim_start_matches('/'));
        return Some(Target {
            host: format!("{name}.{namespace}.svc"),
            port,
            path,
            service: Some((namespace, name)),
            ca,
        });
    }
    let url: http::Uri = client.get("url").and_then(Value::as_str)?.parse().ok()?;
    let path = url.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    Some(Target { host: url.host()?.to_owned(), port: url.port_u16().unwrap_or(443), path, service: None, ca })
}

impl Webhook {
    /// Posts a ConversionReview for one object. Conversion is a plain function everywhere else, so the call blocks its task; the
    /// runtime moves its other tasks away.
    fn call(&self, object: &Object, to: &GroupVersionKind) -> Result<Value, String> {
        let uid = rt::rand::uid();
        let review = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "request": {"uid": uid, "desiredAPIVersion": to.api_version(), "objects": [object]},
        });
        let handle = tokio::runtime::Handle::try_current().map_err(|e| e.to_string())?;
        if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread {
            return Err("conversion webhooks need a multi-threaded runtime".into());
        }
        let answer = tokio::task::block_in_place(|| handle.block_on(self.caller.call(&self.target, &review, TIMEOUT)));
        let answer = answer.map_err(|e| e.to_string())?;
        let response = answer.get("response").ok_or("expected response")?;
        if response.get("uid").and_then(Value::as_str) != Some(uid.as_str()) {
            return Err("expected response.uid to be the request's".into());
        }
        if response.pointer("/result/status").and_then(Value::as_str) != Some("Success") {
            let message = response.pointer("/result/message").and_then(Value::as_str).unwrap_or("");
            return Err(message.to_owned());
        }
        let converted = response.get("convertedObjects").and_then(Value::as_array);
        match converted.map(Vec::as_slice) {
            Some([one]) => Ok(one.clone()),
            other => Err(format!("expected 1 converted objects, got {}", other.map_or(0, <[Value]>::len))),
        }
    }
}
