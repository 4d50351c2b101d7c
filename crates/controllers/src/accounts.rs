//! Clients under the controllers' own service accounts (`--use-service-account-credentials`).
//!
//! Each account is made in `kube-system` when it is missing; its token is asked for when it is first needed and again
//! before it ends.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::ServiceAccount;
use api::metav1::ObjectMeta;
use async_trait::async_trait;
use client::{Body, Client, Error, Resource, Transport, TransportError};
use http::{HeaderValue, header};
use rt::time::Instant;
use serde_json::{Value, json};

const NAMESPACE: &str = "kube-system";
const LIFE: Duration = Duration::from_secs(3600);

struct Held {
    value: HeaderValue,
    renew: Instant,
}

/// Sends as a service account.
struct AsAccount {
    /// Asks for tokens.
    manager: Client,
    /// Shows nothing of its own.
    bare: Arc<dyn Transport>,
    account: String,
    held: rt::sync::Mutex<Option<Held>>,
}

/// A client as a service account of `kube-system`. `manager` may make accounts and ask for their tokens; `bare` goes to
/// the same server with no credentials.
pub(crate) fn client(manager: &Client, bare: Arc<dyn Transport>, account: &str, user_agent: &str) -> Client {
    let transport =
        AsAccount { manager: manager.clone(), bare, account: account.to_owned(), held: rt::sync::Mutex::default() };
    Client::new(Arc::new(transport), user_agent)
}

impl AsAccount {
    async fn fresh(&self) -> Result<Held, Error> {
        let gvr = ServiceAccount::gvr();
        let of = Resource { gvr: &gvr, namespace: Some(NAMESPACE) };
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": LIFE.as_secs()},
        });
        let answer = match self.manager.post_subresource(&of, &self.account, "token", &request).await {
            Err(error) if error.is_not_found() => {
                let account = ServiceAccount {
                    metadata: ObjectMeta {
                        name: Some(self.account.clone()),
                        namespace: Some(NAMESPACE.to_owned()),
                        ..ObjectMeta::default()
                    },
                    ..ServiceAccount::default()
                };
                match self.manager.create(&account).await {
                    Err(error) if !error.is_already_exists() => return Err(error),
                    _ => {}
                }
                self.manager.post_subresource(&of, &self.account, "token", &request).await?
            }
            other => other?,
        };
        let token = answer.get(&["status", "token"]).and_then(Value::as_str).unwrap_or_default();
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::Request("the server gave a token that no header can hold".to_owned()))?;
        value.set_sensitive(true);
        // Renewed at four fifths of its life, as projected tokens are.
        Ok(Held { value, renew: Instant::now() + LIFE * 4 / 5 })
    }
}

#[async_trait]
impl Transport for AsAccount {
    async fn send(&self, mut request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let value = {
            let mut held = self.held.lock().await;
            match &*held {
                Some(token) if token.renew > Instant::now() => token.value.clone(),
                _ => {
                    let fresh = self.fresh().await.map_err(|e| TransportError::new("get the account's token", e))?;
                    held.insert(fresh).value.clone()
                }
            }
        };
        request.headers_mut().insert(header::AUTHORIZATION, value);
        let answer = self.bare.send(request).await?;
        if answer.status() == http::StatusCode::UNAUTHORIZED {
            // The account was made anew, or the server's keys have changed: the next request comes with another token.
            *self.held.lock().await = None;
        }
        Ok(answer)
    }
}
