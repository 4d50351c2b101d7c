//! Deletes token secrets that were made for service accounts automatically (until v1.23) and have not been used for a
//! year: first they are marked invalid, and another year later they go (upstream's legacy token cleaner).

use std::collections::BTreeSet;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use client::{DeleteOptions, ListParams, PatchKind};
use informer::{Informer, Scope};
use rt::time::Timestamp;
use serde_json::json;

use crate::frame::Context;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// How often secrets are looked at.
const PERIOD: Duration = Duration::from_secs(24 * 3600);

/// What is to be done with a secret.
#[derive(Debug, PartialEq, Eq)]
enum Todo {
    Keep,
    Mark,
    Delete,
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn is_day(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// What becomes of a token secret; `border` is the time since when it would have had to be used.
fn decide(secret: &Secret, account: Option<&ServiceAccount>, mounted: bool, border: Timestamp) -> Todo {
    let created = secret.metadata.creation_timestamp.as_ref().map(|t| t.0);
    if secret.is_deleting() || created.is_none_or(|at| at >= border) {
        return Todo::Keep;
    }
    let border = day(border);
    if secret.label(LAST_USED).is_some_and(|used| !is_day(used) || used >= border.as_str()) {
        return Todo::Keep;
    }
    // Only what the account lists was made automatically.
    let listed = account.is_some_and(|account| {
        let uid = secret.annotation(ACCOUNT_UID).unwrap_or_default();
        let names = account.secrets.iter().flatten();
        (uid.is_empty() || uid == account.uid()) && names.into_iter().any(|s| s.name.as_deref() == Some(secret.name()))
    });
    if !listed || mounted {
        return Todo::Keep;
    }
    match secret.label(INVALID_SINCE).filter(|since| is_day(since)) {
        None => Todo::Mark,
        Some(since) if since >= border.as_str() => Todo::Keep,
        Some(_) => Todo::Delete,
    }
}

/// Names of the secrets that a pod uses.
fn secrets_of(pod: &Pod) -> BTreeSet<String> {
    let tree = serde_json::to_value(&pod.spec).unwrap_or_default();
    let mut found = BTreeSet::new();
    collect(&tree, &mut found);
    found
}

fn collect(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, inner) in map {
                // `secretName` of volumes; references are called `secret...Ref`, `secret` or `imagePullSecrets`.
                match key.as_str() {
                    "secretName" => found.extend(inner.as_str().map(str::to_owned)),
                    "imagePullSecrets" => {
                        let names = inner.as_array().into_iter().flatten();
                        found.extend(names.filter_map(|n| n["name"].as_str().map(str::to_owned)));
                    }
                    key if key.starts_with("secret") || key.ends_with("SecretRef") => {
                        found.extend(inner["name"].as_str().map(str::to_owned));
                    }
                    _ => {}
                }
                collect(inner, found);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|inner| collect(inner, found)),
        _ => {}
    }
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let field_selector = format!("type={TYPE}");
    let secrets: Informer<Secret> = context.factory.scoped(Scope { field_selector, ..Scope::default() });
    let accounts = context.factory.informer::<ServiceAccount>();
    secrets.synced().await;
    accounts.synced().await;
    let shutdown = context.shutdown.clone();
    let work = async {
        loop {
            look(&context, &secrets, &accounts).await;
            rt::time::sleep(PERIOD).await;
        }
    };
    shutdown.run(work).await;
}

async fn look(context: &Context, secrets: &Informer<Secret>, accounts: &Informer<ServiceAccount>) {
    if secrets.cache().is_empty() {
        return;
    }
    let (now, unused) = (rt::time::now(), context.options.legacy_token_cleanup);
    let Ok(border) = now.checked_sub(unused) else { return };
    let since = match context.client.get::<ConfigMap>("kube-system", TRACKING).await {
        Ok(map) => map.data.as_ref().and_then(|data| data.get("since").cloned()).unwrap_or_default(),
        Err(error) => {
            tracing::debug!(error = error.chain(), "nobody tracks the use of legacy tokens");
            return;
        }
    };
    // Used on the first day of tracking may have gone unseen.
    if !is_day(&since) || since >= day(border) {
        return;
    }
    for secret in secrets.cache().list() {
        let namespace = secret.namespace();
        let account = secret.annotation(ACCOUNT).and_then(|name| accounts.cache().get(namespace, name));
        let mut todo = decide(&secret, account.as_deref(), false, border);
        if todo != Todo::Keep {
            // Cached pods are without what only kubelets read, volumes of secrets among it.
            // The account may not list pods; that of the process, which fills the caches, may.
            match context.factory.client().list::<Pod>(namespace, &ListParams::default()).await {
                Ok(list) if !list.items.iter().any(|pod| secrets_of(pod).contains(secret.name())) => {}
                Ok(_) => todo = Todo::Keep,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "cannot tell which secrets pods use");
                    return;
                }
            }
        }
        let done = match todo {
            Todo::Keep => Ok(()),
            Todo::Mark => {
                let patch = json!({"metadata": {"uid": secret.uid(), "labels": {INVALID_SINCE: day(now)}}});
                context.client.patch::<Secret>(namespace, secret.name(), &PatchKind::Merge, &patch).await.map(drop)
            }
            Todo::Delete => {
                let options = DeleteOptions {
                    resource_version: Some(secret.resource_version().to_owned()),
                    ..DeleteOptions::default()
                };
                context.client.delete::<Secret>(namespace, secret.name(), &options).await
            }
        };
        if let Err(error) = done {
            tracing::warn!(secret = secret.key(), error = error.chain(), "a legacy token stays until the next look");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_first_and_deleted_a_year_later() {
        let border: Timestamp = "2025-06-01T00:00:00Z".parse().unwrap();
        let account: ServiceAccount = api::from_value(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "n", "uid": "u"},
            "secrets": [{"name": "t"}],
        }))
        .unwrap();
        let old = "2020-01-01T00:00:00Z";
        for (created, labels, want) in [
            (old, json!({}), Todo::Mark),
            (old, json!({LAST_USED: "2025-06-02"}), Todo::Keep),
            (old, json!({LAST_USED: "2025-05-31"}), Todo::Mark),
            (old, json!({LAST_USED: "yesterday"}), Todo::Keep),
            (old, json!({INVALID_SINCE: "2025-06-02"}), Todo::Keep),
            (old, json!({INVALID_SINCE: "2025-05-02"}), Todo::Delete),
            ("2025-06-02T00:00:00Z", json!({}), Todo::Keep),
        ] {
            let secret: Secret = api::from_value(json!({
                "apiVersion": "v1", "kind": "Secret", "type": TYPE,
                "metadata": {"name": "t", "namespace": "n", "creationTimestamp": created, "labels": labels,
                    "annotations": {ACCOUNT: "a", ACCOUNT_UID: "u"}},
            }))
            .unwrap();
            assert_eq!(decide(&secret, Some(&account), false, border), want, "{labels}");
            assert_eq!(decide(&secret, None, false, border), Todo::Keep);
            assert_eq!(decide(&secret, Some(&account), true, border), Todo::Keep);
        }
    }
}
