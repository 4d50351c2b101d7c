//! Requests against a whole server in this process, over the memory engine.

mod bad_input;
mod custom;
mod verbs;

use std::sync::Arc;

use apiserver::{Config, Handle, Server};
use async_trait::async_trait;
use auth_api::{
    Attributes, Authenticated, AuthenticationError, Authenticator, Authorizer, AuthorizerError, Credentials, Decision,
    UserInfo,
};
use http::{Request, Response, header};
use registry::{Admit, AdmitAll};
use serde_json::Value;
use wire::Body;

struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(&self, _: &Credentials<'_>) -> Result<Option<Authenticated>, AuthenticationError> {
        Ok(None)
    }
}

/// Lets `admin` do everything and others nothing.
struct AdminOnly;

#[async_trait]
impl Authorizer for AdminOnly {
    async fn authorize(&self, attributes: &Attributes) -> Result<(Decision, String), AuthorizerError> {
        let allowed = attributes.user.name == "admin";
        Ok((if allowed { Decision::Allow } else { Decision::NoOpinion }, String::new()))
    }
}

/// A running server without ports.
pub(crate) struct World {
    handle: Handle,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::admitting(Arc::new(AdmitAll)).await
    }

    /// A server with an admission chain.
    pub(crate) async fn admitting(admit: Arc<dyn Admit>) -> Self {
        let store =
            registry::backend::Embedded::memory(registry::backend::EmbeddedOptions::default()).expect("a store");
        let shutdown = rt::Shutdown::new();
        let registry = registry::Registry::new(store, shutdown.clone());
        let range = "10.0.0.0/24".parse().expect("a range");
        let ranges = kinds::ServiceRanges { cluster_ips: vec![range], node_ports: 30000..=30100 };
        for row in kinds::kinds(&kinds::Config::new(ranges)) {
            registry.add(row);
        }
        registry.set_admit(admit);
        let config = Config::new(registry, Arc::new(Nobody), Arc::new(AdminOnly), shutdown);
        let handle = Server::start(config).await.expect("it starts");
        handle.started().await;
        Self { handle }
    }

    pub(crate) async fn raw(
        &self,
        user: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Body> {
        self.bytes(user, method, path, headers, body.to_owned().into_bytes()).await
    }

    pub(crate) async fn bytes(
        &self,
        user: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(wire::full(body)).expect("a request");
        self.handle.call(request, UserInfo::new(user, &[])).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, content_type: &str, body: &str) -> Answer {
        let response = self.raw("admin", method, path, &[("content-type", content_type)], body).await;
        answer(response).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, "application/json", &body.to_string()).await
    }

    pub(crate) async fn patch(&self, kind: &str, path: &str, body: &Value) -> Answer {
        self.call("PATCH", path, &format!("application/{kind}"), &body.to_string()).await
    }
}

pub(crate) async fn answer(response: Response<Body>) -> Answer {
    let code = response.status().as_u16();
    let warnings = response.headers().get_all(header::WARNING);
    let warnings = warnings.iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    let bytes = wire::read_all(response.into_body(), 1 << 24).await.expect("a body");
    Answer { code, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), warnings }
}
