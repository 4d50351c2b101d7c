//! The token webhook (`--authentication-token-webhook-config-file`): a server that answers TokenReviews.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use auth_api::{Authenticated, AuthenticationError, UserInfo};
use serde_json::{Value, json};

use crate::bearer::{TokenAuthenticator, implicit_audiences};
use crate::cache::{Cache, digest};

const TIMEOUT: Duration = Duration::from_secs(30);
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const CACHED_TOKENS: usize = 8192;

/// The webhook.
pub struct TokenWebhook {
    server: client::Webhook,
    version: String,
    cache: Cache<[u8; 32], Option<Authenticated>>,
    ttl_seconds: i64,
    api_audiences: Vec<String>,
}

impl TokenWebhook {
    /// A webhook at the server of a kubeconfig file; `version` is that of the TokenReviews, `ttl` how long answers are believed.
    ///
    /// # Errors
    /// The file cannot be used, or there is no such version.
    pub fn new(kubeconfig: &Path, version: &str, ttl: Duration, api_audiences: Vec<String>) -> Result<Self, String> {
        if !matches!(version, "v1" | "v1beta1") {
            return Err(format!("unsupported authentication webhook version {version:?}"));
        }
        Ok(Self {
            server: client::Webhook::load(kubeconfig, "kube-apiserver").map_err(|e| e.to_string())?,
            version: version.to_owned(),
            cache: Cache::new(CACHED_TOKENS),
            ttl_seconds: i64::try_from(ttl.as_secs()).unwrap_or(0),
            api_audiences,
        })
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Value, String> {
        let review = json!({
            "apiVersion": format!("authentication.k8s.io/{}", self.version), "kind": "TokenReview", "metadata": {},
            "spec": {"token": token, "audiences": audiences}, "status": {"user": {}},
        });
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let failure = match self.server.post(&review, TIMEOUT).await {
                Ok((code, mut answer)) if (200..300).contains(&code) => return Ok(answer["status"].take()),
                Ok((code, _)) if code < 500 && code != 429 => return Err(format!("the server answered {code}")),
                Ok((code, _)) => format!("the server answered {code}"),
                Err(error) => error,
            };
            if attempt == TRIES {
                return Err(failure);
            }
            rt::time::sleep(pause).await;
            pause = pause.mul_f64(1.5);
        }
        Err("not asked".into())
    }

    fn read(&self, status: &Value, audiences: &[String]) -> Result<Option<Authenticated>, String> {
        if status["authenticated"] != true {
            return match status["error"].as_str().unwrap_or("") {
                "" => Ok(None),
                error => Err(error.to_owned()),
            };
        }
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let text = |name: &str| status["user"][name].as_str().unwrap_or("").to_owned();
        let extra = status["user"]["extra"].as_object().into_iter().flatten();
        let user = UserInfo {
            name: text("username"),
            uid: text("uid"),
            groups: texts(&status["user"]["groups"]),
            extra: extra.map(|(k, v)| (k.clone(), texts(v))).collect(),
        };
        // A webhook that names no audiences vouches for the server's own.
        let given = texts(&status["audiences"]);
        let good = if given.is_empty() {
            implicit_audiences(&self.api_audiences, audiences)
        } else {
            let common: Vec<String> = given.into_iter().filter(|a| audiences.contains(a)).collect();
            (!common.is_empty()).then_some(common)
        };
        Ok(good.map(|audiences| Authenticated { user, audiences }))
    }
}

#[async_trait]
impl TokenAuthenticator for TokenWebhook {
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let parts: Vec<&[u8]> =
            std::iter::once(token.as_bytes()).chain(audiences.iter().map(String::as_bytes)).collect();
        let key = digest(&parts);
        if let Some(known) = self.cache.get(&key) {
            return Ok(known);
        }
        let failed = |message| AuthenticationError { message };
        let status = self.ask(token, audiences).await.map_err(failed)?;
        let found = self.read(&status, audiences).map_err(failed)?;
        self.cache.put(key, found.clone(), rt::time::unix_seconds() + self.ttl_seconds);
        Ok(found)
    }
}
