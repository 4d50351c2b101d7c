//! A webhook server over TLS: admission, conversion, tokens, authorization, audit; and what it was asked.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::watch;
use wire::{Body, ConnInfo, Service, TlsConfig, TlsSource};

/// Longest request body.
const MAX_BODY: usize = 4 << 20;

/// One question.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The path.
    pub path: String,
    /// The body.
    pub body: Value,
    /// The name in the client's certificate.
    pub client: Option<String>,
}

/// The server's memory.
#[derive(Default)]
pub struct Memory {
    asked: Mutex<Vec<Asked>>,
    changed: watch::Sender<usize>,
}

impl Memory {
    fn note(&self, asked: Asked) {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(asked);
        self.changed.send_replace(all.len());
    }

    /// All questions to a path.
    pub fn at(&self, path: &str) -> Vec<Asked> {
        let all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// Waits for a question to a path that fits.
    ///
    /// # Errors
    /// None comes in time.
    pub async fn wait(&self, path: &str, fits: impl Fn(&Asked) -> bool) -> Result<Asked> {
        let mut changed = self.changed.subscribe();
        let look = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = self.at(path).into_iter().find(&fits) {
                    return Ok(found);
                }
                changed.changed().await.context("the memory is gone")?;
            }
        };
        tokio::time::timeout(crate::LIMIT, look).await.with_context(|| format!("no fitting question to {path}"))?
    }
}

struct Hooks(Arc<Memory>);

fn patched(steps: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(steps.to_string())})
}

/// What an admission webhook says; nothing for one that never does.
fn admit(path: &str, request: &Value) -> Option<Value> {
    let object = &request["object"];
    Some(match path {
        // Counts how often it was asked.
        "/mutate-first" => {
            let before = object["metadata"]["annotations"]["first"].as_str().and_then(|n| n.parse::<u32>().ok());
            let steps = match (before, object["metadata"]["annotations"].is_object()) {
                (Some(n), _) => {
                    json!([{"op": "replace", "path": "/metadata/annotations/first", "value": (n + 1).to_string()}])
                }
                (None, true) => json!([{"op": "add", "path": "/metadata/annotations/first", "value": "1"}]),
                (None, false) => json!([{"op": "add", "path": "/metadata/annotations", "value": {"first": "1"}}]),
            };
            patched(steps)
        }
        "/mutate-second" => patched(json!([{"op": "add", "path": "/data/second", "value": "was here"}])),
        "/validate" if object["data"]["deny"] == "yes" => {
            json!({"allowed": false, "status": {"code": 403, "message": "the hook says no", "reason": "Forbidden"}})
        }
        "/validate" => json!({"allowed": true, "warnings": ["the hook warns"], "auditAnnotations": {"seen": "yes"}}),
        "/nonsense" => return Some(json!("nonsense")),
        _ => return None,
    })
}

/// Converts between versions whose one difference is the name of a field.
fn convert(request: &Value) -> Value {
    let wanted = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects: Vec<Value> = request["objects"]
        .as_array()
        .into_iter()
        .flatten()
        .cloned()
        .map(|mut object| {
            let (from, to) = if wanted.ends_with("/v2") { ("size", "width") } else { ("width", "size") };
            if let Some(value) = object["spec"].as_object_mut().and_then(|spec| spec.remove(from)) {
                object["spec"][to] = value;
            }
            object["apiVersion"] = json!(wanted);
            object
        })
        .collect();
    json!({"uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"}})
}

fn answer(path: &str, body: &Value) -> Option<Value> {
    let mut said = json!({"apiVersion": body["apiVersion"], "kind": body["kind"]});
    match path {
        "/convert" => said["response"] = convert(&body["request"]),
        "/authenticate" => {
            let known = body["spec"]["token"] == "hook-token";
            let user = json!({"username": "hooked", "uid": "7", "groups": ["hooks"], "extra": {"from": ["hook"]}});
            said["status"] =
                if known { json!({"authenticated": true, "user": user}) } else { json!({"authenticated": false}) };
        }
        "/authorize" => {
            let asks = &body["spec"]["resourceAttributes"];
            let allowed =
                body["spec"]["user"] == "hooked" && asks["resource"] == "configmaps" && asks["verb"] == "list";
            said["status"] = json!({"allowed": allowed, "reason": if allowed { "" } else { "the hook forbids it" }});
        }
        "/audit" => return Some(json!({})),
        _ => {
            let mut response = admit(path, &body["request"])?;
            if response.is_object() {
                response["uid"] = body["request"]["uid"].clone();
            }
            said["response"] = response;
        }
    }
    Some(said)
}

#[async_trait]
impl Service for Hooks {
    async fn call(&self, request: http::Request<Body>, connection: Arc<ConnInfo>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let bytes = wire::read_all(request.into_body(), MAX_BODY).await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let client = connection.peer_certificates.first().and_then(|cert| pki::Info::parse(cert).ok());
        let client = client.map(|info| info.subject.common_name);
        self.0.note(Asked { path: path.clone(), body: body.clone(), client });
        let Some(said) = answer(&path, &body) else {
            // The caller's deadline ends this.
            std::future::pending::<()>().await;
            return http::Response::new(wire::empty());
        };
        let mut response = http::Response::new(wire::full(said.to_string()));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        response
    }
}

/// A certificate for a server of ours, as its TLS wants it; with authorities, no client comes in without a certificate of one.
///
/// # Errors
/// The authority is unusable.
pub fn identity(ca: &pki::Pair, names: &[&str], clients: &[&pki::Pair]) -> Result<TlsSource> {
    let mut sans = vec![pki::San::Ip(std::net::Ipv4Addr::LOCALHOST.into()), pki::San::Dns("localhost".into())];
    sans.extend(names.iter().map(|name| pki::San::Dns((*name).to_owned())));
    let day = std::time::Duration::from_secs(24 * 3600);
    let pair = ca.issue(&pki::Subject::new("server", &[]), &sans, pki::Usage::SERVER, day).context("issue")?;
    Ok(TlsSource {
        certificate: pair.cert_pem().into_bytes(),
        key: pair.key_pem().into_bytes(),
        request_client_certificate: true,
        client_ca: clients.iter().map(|ca| ca.cert_pem()).collect::<String>().into_bytes(),
    })
}

/// Serves until the shutdown, at the port given.
///
/// # Errors
/// It cannot listen.
pub async fn serve(source: &TlsSource, service: Arc<dyn Service>, shutdown: &rt::Shutdown) -> Result<u16> {
    let tls = TlsConfig::new(source).context("use a certificate")?;
    let bound = wire::bind((std::net::Ipv4Addr::LOCALHOST, 0).into(), Some(tls)).await.context("listen")?;
    let port = bound.address().context("no address")?.port();
    rt::spawn("test server", wire::serve(bound, service, shutdown.clone()));
    Ok(port)
}

/// The webhooks; their clients' certificates are of an authority of the test's own.
///
/// # Errors
/// It cannot listen.
pub async fn start(ca: &pki::Pair, shutdown: &rt::Shutdown) -> Result<(Arc<Memory>, u16)> {
    let memory = Arc::new(Memory::default());
    let port = serve(&identity(ca, &[], &[])?, Arc::new(Hooks(memory.clone())), shutdown).await?;
    Ok((memory, port))
}
