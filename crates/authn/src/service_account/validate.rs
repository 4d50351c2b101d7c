//! Whether what a token says still holds: its time, and the objects that it is bound to.

use std::sync::Arc;

use auth_api::{Lookup, UserInfo};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meta::{GroupResource, GroupVersionResource, Object, Status};

use super::claims::{Claims, Private, Reference};
use crate::CREDENTIAL_ID;
use crate::cache::digest;

/// Seconds by which clocks may differ, and that a deleted object's tokens live on.
const LEEWAY: i64 = 60;
const INVALIDATED: &str = "service account token has been invalidated";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

pub(super) struct Validator<'a> {
    pub(super) objects: &'a dyn Lookup,
    pub(super) lookup: bool,
}

fn check_time(claims: &Claims, now: i64) -> Result<(), String> {
    if claims.not_before.is_some_and(|t| now + LEEWAY < t) {
        return Err("service account token is not valid yet".into());
    }
    if claims.expiry.is_some_and(|t| now - LEEWAY > t) {
        return Err("service account token has expired".into());
    }
    if claims.issued_at.is_some_and(|t| now + LEEWAY < t) {
        return Err("service account token is issued in the future".into());
    }
    Ok(())
}

/// Whether the object was marked as deleted longer ago than the leeway.
fn is_gone(object: &Object, now: i64) -> bool {
    let deleted = object.deletion_timestamp().and_then(|t| meta::time::parse(t).ok());
    deleted.is_some_and(|t| t.as_second() < now - LEEWAY)
}

impl Validator<'_> {
    async fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        self.objects.get(&GroupVersionResource::new("", "v1", resource), namespace, name).await
    }

    async fn service_account(&self, namespace: &str, wanted: &Reference, now: i64) -> Result<Arc<Object>, String> {
        let found = self.get("serviceaccounts", namespace, &wanted.name).await.map_err(|s| s.message)?;
        let account =
            found.ok_or_else(|| Status::not_found(&GroupResource::new("", "serviceaccounts"), &wanted.name).message)?;
        if account.uid() != wanted.uid {
            return Err(format!("service account UID ({}) does not match claim ({})", account.uid(), wanted.uid));
        }
        if is_gone(&account, now) {
            return Err(format!("service account {namespace}/{} has been deleted", wanted.name));
        }
        Ok(account)
    }

    /// Checks that the object a token is bound to is still the same one. `what` names it in the message.
    async fn still_there(
        &self,
        resource: &str,
        namespace: &str,
        wanted: &Reference,
        what: (&str, &str),
        now: i64,
    ) -> Result<(), String> {
        let found = self.get(resource, namespace, &wanted.name).await.map_err(|_| INVALIDATED.to_owned())?;
        let object = found.ok_or_else(|| INVALIDATED.to_owned())?;
        if object.uid() != wanted.uid {
            let (kind, reference) = what;
            return Err(format!(
                "{kind} UID ({}) does not match service account {reference} ref claim ({})",
                object.uid(),
                wanted.uid
            ));
        }
        if is_gone(&object, now) { Err(INVALIDATED.to_owned()) } else { Ok(()) }
    }

    /// Validates a token from `TokenRequest`.
    pub(super) async fn bound(&self, claims: &Claims, private: &Private) -> Result<UserInfo, String> {
        let now = rt::time::unix_seconds();
        check_time(claims, now)?;
        let namespace = private.namespace.as_str();
        let account = &private.service_account;
        if self.lookup {
            self.service_account(namespace, account, now).await?;
            if let Some(secret) = &private.secret {
                self.still_there("secrets", namespace, secret, ("secret", "secret"), now).await?;
            }
            if let Some(pod) = &private.pod {
                self.still_there("pods", namespace, pod, ("pod", "pod"), now).await?;
            } else if let Some(node) = &private.node {
                self.still_there("nodes", "", node, ("node", "node"), now).await?;
            }
        }
        let mut user = UserInfo::service_account(namespace, &account.name);
        user.uid.clone_from(&account.uid);
        let mut add = |key: &str, value: &str| {
            if !value.is_empty() {
                user.extra.insert(key.to_owned(), vec![value.to_owned()]);
            }
        };
        if !claims.id.is_empty() {
            add(CREDENTIAL_ID, &format!("JTI={}", claims.id));
        }
        if let Some(pod) = &private.pod {
            add("authentication.kubernetes.io/pod-name", &pod.name);
            add("authentication.kubernetes.io/pod-uid", &pod.uid);
        }
        if let Some(node) = &private.node {
            add("authentication.kubernetes.io/node-name", &node.name);
            add("authentication.kubernetes.io/node-uid", &node.uid);
        }
        Ok(user)
    }

    /// Validates a token kept in a secret.
    pub(super) async fn legacy(&self, claims: &Claims, token: &str) -> Result<UserInfo, String> {
        let (namespace, name) = (claims.legacy_namespace.as_str(), claims.legacy_account.as_str());
        for (value, missing) in [
            (claims.subject.as_str(), "sub claim is missing"),
            (namespace, "namespace claim is missing"),
            (&claims.legacy_secret, "secretName claim is missing"),
            (name, "serviceAccountName claim is missing"),
            (&claims.legacy_uid, "serviceAccountUID claim is missing"),
        ] {
            if value.is_empty() {
                return Err(missing.into());
            }
        }
        let mut user = UserInfo::service_account(namespace, name);
        if user.name != claims.subject {
            return Err("sub claim is invalid".into());
        }
        user.uid.clone_from(&claims.legacy_uid);
        if self.lookup {
            self.legacy_secret(claims, token).await?;
        }
        Ok(user)
    }

    async fn legacy_secret(&self, claims: &Claims, token: &str) -> Result<(), String> {
        let (namespace, secret_name) = (claims.legacy_namespace.as_str(), claims.legacy_secret.as_str());
        let invalidated = || "Token has been invalidated".to_owned();
        let found = self.get("secrets", namespace, secret_name).await.map_err(|_| invalidated())?;
        let secret = found.filter(|s| s.deletion_timestamp().is_none()).ok_or_else(invalidated)?;
        let kept = STANDARD.decode(secret.get_str(&["data", "token"])).unwrap_or_default();
        if digest(&[&kept]) != digest(&[token.as_bytes()]) {
            return Err("Token does not match server's copy".into());
        }
        let reference = Reference { name: claims.legacy_account.clone(), uid: claims.legacy_uid.clone() };
        let account = self.get("serviceaccounts", namespace, &reference.name).await.map_err(|s| s.message)?;
        let account = account
            .ok_or_else(|| Status::not_found(&GroupResource::new("", "serviceaccounts"), &reference.name).message)?;
        if account.deletion_timestamp().is_some() {
            return Err(format!("ServiceAccount {namespace}/{} has been deleted", reference.name));
        }
        if account.uid() != reference.uid {
            return Err(format!("ServiceAccount UID ({}) does not match claim ({})", account.uid(), reference.uid));
        }
        if secret.label(INVALID_SINCE).is_some_and(|v| !v.is_empty()) {
            return Err(format!(
                "the token in secret {namespace}/{secret_name} for service account {namespace}/{} has been marked invalid",
                reference.name
            ));
        }
        Ok(())
    }
}
