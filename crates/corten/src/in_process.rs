//! The transport of clients in the API server's own process: a function call instead of a socket.

use std::sync::Arc;

use apiserver::Handle;
use async_trait::async_trait;
use auth_api::UserInfo;
use client::{Body, Client, Transport, TransportError};

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
