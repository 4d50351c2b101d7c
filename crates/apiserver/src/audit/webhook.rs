//! The webhook: batches of events posted to a server named in a kubeconfig file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::AuditError;
use super::backend::Sink;
use super::flags::AuditFlags;
use super::trail::Event;

/// Posts of one batch before it is lost, as upstream.
const TRIES: u32 = 5;
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Webhook {
    server: client::Webhook,
    backoff: Duration,
}

impl Webhook {
    pub fn new(path: &Path, flags: &AuditFlags) -> Result<Self, AuditError> {
        let server = client::Webhook::load(path, "kube-apiserver").map_err(AuditError::Webhook)?;
        let backoff = meta::time::parse_go_duration(&flags.audit_webhook_initial_backoff)
            .ok_or_else(|| AuditError::Flags("--audit-webhook-initial-backoff: not a duration".into()))?;
        Ok(Self { server, backoff })
    }
}

#[async_trait]
impl Sink for Webhook {
    async fn write(&self, events: &[Arc<Event>]) -> Result<(), String> {
        let items: Vec<Value> = events.iter().filter_map(|event| serde_json::to_value(&**event).ok()).collect();
        let body = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items});
        let mut pause = self.backoff;
        let mut tries = 1;
        loop {
            let failure = match self.server.post(&body, TIMEOUT).await {
                Ok((code, _)) if code < 300 => return Ok(()),
                // What the server does not take now it will not take later.
                Ok((code, _)) if code < 500 && code != 429 => return Err(format!("the server answered {code}")),
                Ok((code, _)) => format!("the server answered {code}"),
                Err(error) => error,
            };
            if tries == TRIES {
                return Err(failure);
            }
            tries += 1;
            rt::time::sleep(pause).await;
            pause = pause.mul_f64(1.5);
        }
    }
}
