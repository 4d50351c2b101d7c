//! Bootstrap tokens: signs `cluster-info` in `kube-public` with each, and deletes those that have expired.
//!
//! A machine that joins knows a token, and by its signature that the cluster's configuration is not a stranger's.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{ConfigMap, Secret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::{DeleteOptions, Error};
use informer::{Delta, Informer, Queue, Scope, run_workers};
use rt::time::Timestamp;
use sha2::{Digest, Sha256};

use crate::frame::Context;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const NAME: &str = "cluster-info";
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";
const BLOCK: usize = 64;

fn secrets(context: &Context) -> Informer<Secret> {
    let field_selector = format!("type={TYPE}");
    context.factory.scoped(Scope { namespace: NAMESPACE.into(), field_selector, ..Scope::default() })
}

fn text<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default()
}

/// When the token ends; a time that cannot be read counts as past, as upstream's does.
fn expiration(secret: &Secret) -> Option<Timestamp> {
    let at = text(secret, "expiration");
    if at.is_empty() {
        return None;
    }
    Some(meta::time::parse(at).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Identity and secret of a token that may sign.
fn signing(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let id = secret.name().strip_prefix("bootstrap-token-")?;
    let key = text(secret, "token-secret");
    let is_id = id.len() == 6 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let good = is_id
        && id == text(secret, "token-id")
        && !key.is_empty()
        && text(secret, "usage-bootstrap-signing") == "true"
        && expiration(secret).is_none_or(|at| at > now);
    good.then_some((id, key))
}

/// HMAC with SHA-256, RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// A detached JSON web signature.
fn sign(content: &str, id: &str, key: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let payload = URL_SAFE_NO_PAD.encode(content);
    let signature = hmac(key.as_bytes(), format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The data of the signed map; none when it is right already or has nothing to sign.
fn signed(map: &ConfigMap, tokens: &[Arc<Secret>], now: Timestamp) -> Option<BTreeMap<String, String>> {
    let data = map.data.as_ref()?;
    let content = data.get(CONTENT)?;
    let mut wanted: BTreeMap<String, String> = data.clone();
    wanted.retain(|key, _| !key.starts_with(SIGNATURE));
    for (id, key) in tokens.iter().filter_map(|secret| signing(secret, now)) {
        wanted.insert(format!("{SIGNATURE}{id}"), sign(content, id, key));
    }
    (wanted != *data).then_some(wanted)
}

/// Runs the signer.
pub(crate) async fn run_signer(context: Context) {
    let secrets = secrets(&context);
    let field_selector = format!("metadata.name={NAME}");
    let maps: Informer<ConfigMap> =
        context.factory.scoped(Scope { namespace: PUBLIC.into(), field_selector, ..Scope::default() });
    let queue = Arc::new(Queue::new());
    let (of_secret, of_map) = (queue.clone(), queue.clone());
    secrets.add_handler(move |_| of_secret.add(()));
    maps.add_handler(move |_| of_map.add(()));
    secrets.synced().await;
    maps.synced().await;
    let shutdown = context.shutdown.clone();
    run_workers("bootstrap signer", queue, 1, shutdown, move |()| {
        let (context, secrets, maps) = (context.clone(), secrets.clone(), maps.clone());
        async move {
            let Some(map) = maps.cache().get(PUBLIC, NAME) else { return Ok(()) };
            let Some(data) = signed(&map, &secrets.cache().list(), rt::time::now()) else { return Ok(()) };
            let changed = ConfigMap { data: Some(data), ..(*map).clone() };
            match context.client.update(&changed).await {
                Err(error) if !error.is_not_found() => Err(error),
                _ => Ok::<(), Error>(()),
            }
        }
    })
    .await;
}

/// Runs the cleaner.
pub(crate) async fn run_cleaner(context: Context) {
    let secrets = secrets(&context);
    let queue = Arc::new(Queue::new());
    let handed = queue.clone();
    secrets.add_handler(move |delta| {
        if !matches!(delta, Delta::Deleted(_)) {
            handed.add(delta.object().key());
        }
    });
    secrets.synced().await;
    let (shutdown, again) = (context.shutdown.clone(), queue.clone());
    run_workers("token cleaner", queue, 1, shutdown, move |key: String| {
        let (context, secrets, again) = (context.clone(), secrets.clone(), again.clone());
        async move {
            let Some(secret) = secrets.cache().get_key(&key) else { return Ok(()) };
            let Some(at) = expiration(&secret) else { return Ok(()) };
            let left = rt::time::between(rt::time::now(), at);
            if !left.is_zero() {
                again.add_after(key, left);
                return Ok(());
            }
            let options = DeleteOptions::of(secret.uid());
            match context.client.delete::<Secret>(secret.namespace(), secret.name(), &options).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
                _ => Ok::<(), Error>(()),
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(name: &str, id: &str, signs: &str, expires: &str) -> Arc<Secret> {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        Arc::new(
            api::from_value(json!({
                "apiVersion": "v1", "kind": "Secret", "type": TYPE, "metadata": {"name": name, "namespace": NAMESPACE},
                "data": {
                    "token-id": encode(id), "token-secret": encode("0123456789abcdef"),
                    "usage-bootstrap-signing": encode(signs), "expiration": encode(expires),
                },
            }))
            .unwrap(),
        )
    }

    #[test]
    fn hmac_as_rfc_4231() {
        let hex: String = hmac(b"Jefe", b"what do ya want for nothing?").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn only_good_tokens_sign() {
        let map: ConfigMap = api::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": PUBLIC},
            "data": {"kubeconfig": "x", "jws-kubeconfig-gone01": "old"},
        }))
        .unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let tokens = [
            token("bootstrap-token-abcdef", "abcdef", "true", ""),
            token("bootstrap-token-other1", "abcdef", "true", ""),
            token("bootstrap-token-silent", "silent", "false", ""),
            token("bootstrap-token-expird", "expird", "true", "2025-01-01T00:00:00Z"),
        ];
        let data = signed(&map, &tokens, now).unwrap();
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        assert_eq!(keys, ["jws-kubeconfig-abcdef", "kubeconfig"]);
        let right = ConfigMap { data: Some(data), ..map };
        assert!(signed(&right, &tokens, now).is_none(), "nothing changes twice");
    }
}
