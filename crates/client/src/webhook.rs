//! A server that is no API server but is described by a kubeconfig file: webhooks of audit, authentication and authorization.

use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::error::ConfigError;
use crate::http_transport::HttpTransport;
use crate::kubeconfig::Kubeconfig;
use crate::transport::{Transport, body};

/// The largest answer that is read.
const MAX_ANSWER: usize = 10 * 1024 * 1024;

/// Posts JSON to the URL of a kubeconfig's current cluster.
pub struct Webhook {
    transport: HttpTransport,
    user_agent: String,
}

impl Webhook {
    /// Reads the file.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn load(path: &Path, user_agent: &str) -> Result<Self, ConfigError> {
        let transport = Kubeconfig::load(path)?.transport(None)?;
        Ok(Self { transport, user_agent: user_agent.to_owned() })
    }

    /// Posts an object; gives the answer's code, and its body (null when it is no JSON).
    ///
    /// # Errors
    /// There was no answer in time.
    pub fn post<'a>(&'a self, object: &Value, timeout: Duration) -> BoxFuture<'a, Result<(u16, Value), String>> {
        let content = object.to_string();
        Box::pin(async move {
            let late = |_| Err("context deadline exceeded".to_owned());
            rt::time::timeout(timeout, self.exchange(content, timeout)).await.unwrap_or_else(late)
        })
    }

    async fn exchange(&self, content: String, timeout: Duration) -> Result<(u16, Value), String> {
        let request = http::Request::post(format!("/?timeout={}s", timeout.as_secs().max(1)))
            .header("content-type", "application/json")
            .header("accept", "application/json, */*")
            .header("user-agent", &self.user_agent)
            .body(body(content))
            .map_err(|e| e.to_string())?;
        let answer = self.transport.send(request).await.map_err(|e| chain(&e))?;
        let code = answer.status().as_u16();
        let content = wire::read_all(answer.into_body(), MAX_ANSWER).await.map_err(|e| chain(&e))?;
        Ok((code, serde_json::from_slice(&content).unwrap_or_default()))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
