//! ServiceAccount: every pod has an account, its token and its pull secrets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_api::ObjectEvent;
use futures::StreamExt;
use meta::{GroupResource, Object, Status};
use registry::Operation;
use serde_json::{Value, json};

use crate::plugin::{Plugin, Request, core};
use crate::pod::{self, items, text};

const DEFAULT_ACCOUNT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
/// Upstream's odd hour: tokens are refreshed by those who read them, those who do not are noticed.
const TOKEN_SECONDS: i64 = 3607;
/// How long a new namespace's default account is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The plugin.
pub struct ServiceAccount;

/// The account; the default one of a new namespace is made by a controller and may be a moment late.
async fn find(request: &Request<'_>, name: &str) -> Result<Arc<Object>, String> {
    let accounts = core("serviceaccounts");
    let api = &request.deps.api;
    if let Some(found) = api.get(&accounts, request.namespace, name).await.map_err(|s| s.message)? {
        return Ok(found);
    }
    // Upstream names the singular here.
    let missing = Status::not_found(&GroupResource::new("", "serviceaccount"), name).message;
    if name != DEFAULT_ACCOUNT {
        return Err(missing);
    }
    let fits = |object: &Arc<Object>| object.namespace() == request.namespace && object.name() == name;
    let mut events = api.watch(&accounts);
    let wait = async {
        while let Some(event) = events.next().await {
            let found = match event {
                ObjectEvent::Replace(all) => all.into_iter().find(fits),
                ObjectEvent::Upsert(object) => Some(object).filter(fits),
                ObjectEvent::Delete(_) => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    };
    rt::time::timeout(PATIENCE, wait).await.ok().flatten().ok_or(missing)
}

async fn account(request: &Request<'_>, object: &Object) -> Result<Arc<Object>, Status> {
    let name = object.get_str(&["spec", "serviceAccountName"]);
    find(request, name).await.map_err(|cause| {
        let place = format!("{}/{name}", request.namespace);
        request.forbidden(Some(object), format!("error looking up service account {place}: {cause}"))
    })
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}
    ]}})
}

/// Mounts a volume where nothing is mounted yet; the volume is added when a container needs it.
fn mount(object: &mut Object, volume: Value, exists: bool) {
    let name = text(&volume, &["name"]).to_owned();
    let mut needed = false;
    pod::each_container(object, &["initContainers", "containers"], |container| {
        let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
        if mounts.is_null() {
            *mounts = json!([]);
        }
        let Some(mounts) = mounts.as_array_mut() else { return };
        if !mounts.iter().any(|m| text(m, &["mountPath"]) == MOUNT_PATH) {
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            needed = true;
        }
    });
    if needed && !exists {
        let volumes = object.spec_mut().entry("volumes").or_insert_with(|| json!([]));
        if volumes.is_null() {
            *volumes = json!([]);
        }
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(volume);
        }
    }
}

fn mount_token(object: &mut Object) {
    let taken = items(pod::spec(object), "volumes").map(|v| text(v, &["name"])).find(|n| n.starts_with(VOLUME_PREFIX));
    match taken.map(str::to_owned) {
        Some(name) => mount(object, json!({"name": name}), true),
        None => mount(object, token_volume(&format!("{VOLUME_PREFIX}{}", rt::rand::name_suffix(5))), false),
    }
}

/// The way of 2019: the token is in a secret that the account names.
fn mount_secret(request: &Request<'_>, object: &mut Object, account: &Object) -> Result<(), Status> {
    let secrets = account.get(&["secrets"]).and_then(Value::as_array);
    let secret = secrets.and_then(|list| list.first()).map(|s| text(s, &["name"]).to_owned()).unwrap_or_default();
    if secret.is_empty() {
        let cause = format!(
            "No API token found for service account {:?}, retry after the token is automatically created and added to \
             the service account",
            account.name()
        );
        let mut status = Status::server_timeout(&request.group_resource(), "create pod", 1);
        status.message = cause;
        return Err(status);
    }
    let exists = items(pod::spec(object), "volumes").any(|v| text(v, &["name"]) == secret);
    mount(object, json!({"name": secret, "secret": {"secretName": secret, "defaultMode": 420}}), exists);
    Ok(())
}

fn wants_token(account: &Object, object: &Object) -> bool {
    let own = object.get_bool(&["spec", "automountServiceAccountToken"]);
    own.or_else(|| account.get_bool(&["automountServiceAccountToken"])).unwrap_or(true)
}

fn check_mirror(spec: &Value) -> Result<(), &'static str> {
    if !text(spec, &["serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if !pod::secret_names(spec).is_empty() {
        return Err("a mirror pod may not reference secrets");
    }
    let sources = items(spec, "volumes").filter_map(|v| v.get("projected")).flat_map(|p| items(p, "sources"));
    if sources.into_iter().any(|s| s.get("serviceAccountToken").is_some_and(|t| !t.is_null())) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn enforces_mountable(account: &Object) -> bool {
    matches!(account.annotation(ENFORCE_MOUNTABLE), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

fn names(account: &Object, field: &str) -> Vec<String> {
    let list = account.get(&[field]).and_then(Value::as_array);
    list.into_iter().flatten().map(|s| text(s, &["name"]).to_owned()).collect()
}

/// The first secret that containers of the named lists use though the account does not list it.
fn check_container_secrets(spec: &Value, fields: &[&'static str], account: &Object) -> Result<(), String> {
    let allowed = names(account, "secrets");
    let name = account.name();
    for (field, container) in pod::containers(spec, fields) {
        let what = match field {
            "initContainers" => "init container",
            "ephemeralContainers" => "ephemeral container",
            _ => "container",
        };
        let what = format!("{what} {}", text(container, &["name"]));
        for env in items(container, "env") {
            let secret = text(env, &["valueFrom", "secretKeyRef", "name"]);
            if !secret.is_empty() && !allowed.iter().any(|a| a == secret) {
                let variable = text(env, &["name"]);
                return Err(format!(
                    "{what} with envVar {variable} referencing secret.secretName={secret:?} is not allowed because service account {name} does not reference that secret"
                ));
            }
        }
        for source in items(container, "envFrom") {
            let secret = text(source, &["secretRef", "name"]);
            if !secret.is_empty() && !allowed.iter().any(|a| a == secret) {
                return Err(format!(
                    "{what} with envFrom referencing secret.secretName={secret:?} is not allowed because service account {name} does not reference that secret"
                ));
            }
        }
    }
    Ok(())
}

fn check_secrets(spec: &Value, account: &Object) -> Result<(), String> {
    let (allowed, name) = (names(account, "secrets"), account.name());
    for volume in items(spec, "volumes") {
        let secret = text(volume, &["secret", "secretName"]);
        if !secret.is_empty() && !allowed.iter().any(|a| a == secret) {
            return Err(format!(
                "volume with secret.secretName={secret:?} is not allowed because service account {name} does not reference that secret"
            ));
        }
    }
    check_container_secrets(spec, &["initContainers", "containers"], account)?;
    let pull = names(account, "imagePullSecrets");
    for (index, secret) in items(spec, "imagePullSecrets").map(|s| text(s, &["name"])).enumerate() {
        if !pull.iter().any(|a| a == secret) {
            return Err(format!(
                "imagePullSecrets[{index}].name={secret:?} is not allowed because service account {name} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn handles(&self, request: &Request<'_>) -> bool {
        let ephemeral = request.operation == Operation::Update
            && request.is_any_of("", "pods")
            && request.subresource == "ephemeralcontainers";
        request.creates_pod() || ephemeral
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(object) = object.filter(|_| request.creates_pod()) else { return Ok(()) };
        if pod::is_mirror(object) {
            return check_mirror(pod::spec(object)).map_err(|cause| request.forbidden(Some(object), cause));
        }
        if object.get_str(&["spec", "serviceAccountName"]).is_empty() {
            object.set(&["spec", "serviceAccountName"], json!(DEFAULT_ACCOUNT));
            // The old name of the same field, which the served version keeps beside it.
            object.set(&["spec", "serviceAccount"], json!(DEFAULT_ACCOUNT));
        }
        let account = account(request, object).await?;
        if wants_token(&account, object) {
            if request.deps.settings.workshop {
                mount_secret(request, object, &account)?;
            } else {
                mount_token(object);
            }
        }
        let has_pull_secrets = items(pod::spec(object), "imagePullSecrets").next().is_some();
        let pull: Vec<Value> = names(&account, "imagePullSecrets").iter().map(|n| json!({"name": n})).collect();
        if !has_pull_secrets && !pull.is_empty() {
            object.set(&["spec", "imagePullSecrets"], Value::Array(pull));
        }
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let refuse = |cause: String| request.forbidden(Some(object), cause);
        let spec = pod::spec(object);
        if request.creates_pod() && pod::is_mirror(object) {
            return check_mirror(spec).map_err(|cause| refuse(cause.to_owned()));
        }
        if text(spec, &["serviceAccountName"]).is_empty() {
            let place = format!("{}/{}", request.namespace, object.name());
            return Err(refuse(format!("no service account specified for pod {place}")));
        }
        let account = account(request, object).await?;
        if !enforces_mountable(&account) {
            return Ok(());
        }
        if request.creates_pod() {
            check_secrets(spec, &account).map_err(refuse)
        } else {
            check_container_secrets(spec, &["ephemeralContainers"], &account).map_err(refuse)
        }
    }
}
