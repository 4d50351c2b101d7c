//! The transport of clients in the API server's own process: a function call instead of a socket.

use std::sync::Arc;

use apiserver::Handle;
use async_trait::async_trait;
use auth_api::{UserInfo, groups, users};
use client::{Body, Client, Transport, TransportError};
use rt::Shutdown;

struct InProcess {
    handle: Handle,
    user: UserInfo,
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        Ok(self.handle.call(request, self.user.clone()).await)
    }
}

/// A client of this process' API server under a fixed identity; it runs through the whole chain.
pub(crate) fn client(handle: &Handle, user: UserInfo, user_agent: &str) -> Client {
    Client::new(Arc::new(InProcess { handle: handle.clone(), user }), user_agent)
}

/// The resource metrics API as a group of the API server.
pub(crate) struct ResourceMetrics(metrics_api::Server);

impl ResourceMetrics {
    /// Asks the kubelets through this API server's node proxy.
    pub(crate) fn new(handle: &Handle, shutdown: &Shutdown) -> Self {
        let user = UserInfo::new(users::API_SERVER, &[groups::MASTERS]);
        Self(metrics_api::Server::new(client(handle, user, "metrics-server"), shutdown.clone()))
    }
}

#[async_trait]
impl apiserver::LocalGroup for ResourceMetrics {
    fn group(&self) -> &str {
        metrics_api::GROUP
    }

    fn version(&self) -> &str {
        metrics_api::VERSION
    }

    fn resources(&self) -> serde_json::Value {
        metrics_api::Server::resources()
    }

    async fn answer(&self, request: http::Request<()>) -> http::Response<Vec<u8>> {
        self.0.answer(request).await
    }
}
