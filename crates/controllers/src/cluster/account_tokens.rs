//! Token Secrets of service accounts: fills those that were made by hand, and deletes those whose account is gone. In the
//! workshop it makes one for each account as well, as upstream did until v1.23.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{ObjectReference, Secret, ServiceAccount};
use api::k8s_openapi::ByteString;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::{Client, DeleteOptions, Error};
use informer::{Delta, Informer, Queue, Scope, run_workers};
use pki::Key;
use serde_json::json;

use crate::frame::Context;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const BY_ACCOUNT: &str = "account";

struct Controller {
    /// The manager's own identity, as upstream: the role of this controller is the manager's.
    client: Client,
    accounts: Informer<ServiceAccount>,
    secrets: Informer<Secret>,
    key: Key,
    root_ca: Option<String>,
}

/// Runs the controller; without a key there is nothing to sign with.
pub(crate) async fn run(context: Context) {
    let Some(pem) = context.options.service_account_key_pem.clone() else {
        return context.shutdown.cancelled().await;
    };
    let key = match Key::from_pem(&pem) {
        Ok(key) => key,
        Err(error) => {
            tracing::error!(%error, "the service account key is unusable, no token secrets are filled");
            return context.shutdown.cancelled().await;
        }
    };
    let accounts = context.factory.informer::<ServiceAccount>();
    let field_selector = format!("type={TYPE}");
    let secrets = context.factory.scoped::<Secret>(Scope { field_selector, ..Scope::default() });
    secrets.add_index(BY_ACCOUNT, |secret| account_key(secret).into_iter().collect());
    let queue = Arc::new(Queue::new());
    let (of_secret, of_account, all) = (queue.clone(), queue.clone(), secrets.clone());
    secrets.add_handler(move |delta| {
        if !matches!(delta, Delta::Deleted(_)) {
            of_secret.add(delta.object().key());
        }
    });
    accounts.add_handler(move |delta| {
        if !matches!(delta, Delta::Updated { .. }) {
            let there = all.cache().by_index(BY_ACCOUNT, &delta.object().key());
            there.iter().for_each(|secret| of_account.add(secret.key()));
        }
    });
    let missing = Arc::new(Queue::new());
    let all = missing.clone();
    accounts.add_handler(move |delta| {
        if !matches!(delta, Delta::Deleted(_)) {
            all.add(delta.object().key());
        }
    });
    accounts.synced().await;
    secrets.synced().await;
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller {
        client: context.factory.client().clone(),
        accounts,
        secrets,
        key,
        root_ca: context.options.root_ca_pem.clone(),
    });
    let of_accounts = controller.clone();
    let fill = run_workers("service account tokens", queue, workers, shutdown.clone(), move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
    if !context.options.token_secrets {
        return fill.await;
    }
    let make = run_workers("token secrets of accounts", missing, 1, shutdown, move |key: String| {
        let controller = of_accounts.clone();
        async move { controller.make(&key).await }
    });
    futures::future::join(fill, make).await;
}

fn account_key(secret: &Secret) -> Option<String> {
    Some(format!("{}/{}", secret.namespace(), secret.annotation(ACCOUNT)?))
}

fn data<'a>(secret: &'a Secret, name: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(name).map(|v| v.0.as_slice())
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(secret) = self.secrets.cache().get_key(key) else { return Ok(()) };
        let Some(name) = secret.annotation(ACCOUNT).filter(|_| !secret.is_deleting()) else { return Ok(()) };
        let uid = secret.annotation(ACCOUNT_UID);
        let same = |account: &ServiceAccount| uid.is_none_or(|uid| uid.is_empty() || uid == account.uid());
        let account = match self.accounts.cache().get(secret.namespace(), name).filter(|a| same(a)) {
            Some(account) => Some(account),
            None => match self.client.get::<ServiceAccount>(secret.namespace(), name).await {
                Ok(account) => Some(Arc::new(account)).filter(|a| same(a)),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            },
        };
        match account {
            Some(account) => self.fill(&secret, &account).await,
            None => {
                let options = DeleteOptions::of(secret.uid());
                match self.client.delete::<Secret>(secret.namespace(), secret.name(), &options).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }

    async fn fill(&self, secret: &Secret, account: &ServiceAccount) -> Result<(), Error> {
        let Some(filled) = self.filled(secret, account)? else { return Ok(()) };
        match self.client.update(&filled).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// The secret with all that belongs in it; `None` where nothing is missing.
    fn filled(&self, secret: &Secret, account: &ServiceAccount) -> Result<Option<Secret>, Error> {
        let ca = self.root_ca.as_ref().map(|pem| pem.as_bytes());
        let right = data(secret, "token").is_some_and(|token| !token.is_empty())
            && data(secret, "namespace") == Some(secret.namespace().as_bytes())
            && (ca.is_none() || data(secret, "ca.crt") == ca)
            && secret.annotation(ACCOUNT_UID) == Some(account.uid());
        if right {
            return Ok(None);
        }
        let mut changed = secret.clone();
        let values = changed.data.get_or_insert_default();
        if values.get("token").is_none_or(|token| token.0.is_empty()) {
            let token = self.token(secret, account).map_err(|e| Error::Request(e.to_string()))?;
            values.insert("token".to_owned(), ByteString(token.into_bytes()));
        }
        values.insert("namespace".to_owned(), ByteString(secret.namespace().as_bytes().to_vec()));
        if let Some(ca) = ca {
            values.insert("ca.crt".to_owned(), ByteString(ca.to_vec()));
        }
        let annotations = changed.metadata.annotations.get_or_insert_default();
        annotations.insert(ACCOUNT_UID.to_owned(), account.uid().to_owned());
        Ok(Some(changed))
    }

    /// Makes an account's token secret and names it in the account, unless it has one.
    async fn make(&self, key: &str) -> Result<(), Error> {
        let Some(known) = self.accounts.cache().get_key(key) else { return Ok(()) };
        // The cache may not have the secret that was made a moment ago.
        let mut account = match self.client.get::<ServiceAccount>(known.namespace(), known.name()).await {
            Ok(account) => account,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        if account.is_deleting() || account.secrets.iter().flatten().next().is_some() {
            return Ok(());
        }
        let mut secret = Secret { type_: Some(TYPE.to_owned()), ..Secret::default() };
        let name = format!("{}-token-{}", account.name(), rt::rand::name_suffix(5));
        secret.metadata.name = Some(name.clone());
        secret.metadata.namespace = Some(account.namespace().to_owned());
        secret.metadata.annotations = Some([(ACCOUNT.to_owned(), account.name().to_owned())].into());
        let Some(secret) = self.filled(&secret, &account)? else { return Ok(()) };
        let made = self.client.create(&secret).await?;
        account
            .secrets
            .get_or_insert_default()
            .push(ObjectReference { name: Some(name), ..ObjectReference::default() });
        if let Err(error) = self.client.update(&account).await {
            // Nobody would ever name it: it goes, and the next try makes another.
            let options = DeleteOptions::of(made.uid());
            self.client.delete::<Secret>(made.namespace(), made.name(), &options).await?;
            return Err(error);
        }
        Ok(())
    }

    fn token(&self, secret: &Secret, account: &ServiceAccount) -> Result<String, pki::Error> {
        let public = self.key.public();
        let header = json!({"alg": public.jose_algorithm(), "kid": public.key_id()});
        let claims = json!({
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": account.namespace(),
            "kubernetes.io/serviceaccount/secret.name": secret.name(),
            "kubernetes.io/serviceaccount/service-account.name": account.name(),
            "kubernetes.io/serviceaccount/service-account.uid": account.uid(),
            "sub": format!("system:serviceaccount:{}:{}", account.namespace(), account.name()),
        });
        let body =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign_jose(body.as_bytes())?;
        Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
