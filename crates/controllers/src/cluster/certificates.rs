//! Certificate signing requests: nodes' own are approved, approved ones signed, old ones deleted.

mod policy;

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use api::k8s::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use api::k8s_openapi::ByteString;
use api::metav1::Time;
use client::{DeleteOptions, Error, Resource};
use informer::{Delta, Informer, Queue, run_workers};
use pki::{Info, Key, Pair, Request};

use self::policy::{KUBELET_CLIENT, Signer};
use crate::frame::Context;

type Csr = CertificateSigningRequest;

/// Shortest life of a certificate, upstream's.
const SHORTEST: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

fn has_condition(csr: &Csr, type_: &str) -> bool {
    let conditions = csr.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == type_)
}

fn certificate(csr: &Csr) -> Option<&[u8]> {
    csr.status.as_ref()?.certificate.as_ref().map(|c| c.0.as_slice()).filter(|c| !c.is_empty())
}

fn parse(csr: &Csr) -> Result<Request, String> {
    let text = csr.spec.request.0.as_slice();
    let text = std::str::from_utf8(text).map_err(|_| "unable to parse csr: it is no PEM text".to_owned())?;
    Request::parse(text).map_err(|e| format!("unable to parse csr: {e}"))
}

fn condition(type_: &str, reason: &str, message: String) -> CertificateSigningRequestCondition {
    let now = Some(Time(rt::time::now()));
    CertificateSigningRequestCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: now.clone(),
        last_transition_time: now,
    }
}

async fn follow<F, R>(name: &'static str, context: Context, sync: F)
where
    F: Fn(Context, Arc<Csr>, Arc<Queue<String>>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<(), Error>> + Send + 'static,
{
    let requests: Informer<Csr> = context.factory.informer();
    let queue = Arc::new(Queue::new());
    let handed = queue.clone();
    requests.add_handler(move |delta| {
        if !matches!(delta, Delta::Deleted(_)) {
            handed.add(delta.object().name().to_owned());
        }
    });
    requests.synced().await;
    let (shutdown, workers, again) = (context.shutdown.clone(), context.options.workers, queue.clone());
    run_workers(name, queue, workers, shutdown, move |key: String| {
        let (context, found, sync, again) =
            (context.clone(), requests.cache().get_key(&key), sync.clone(), again.clone());
        async move {
            match found {
                Some(csr) => sync(context, csr, again).await,
                None => Ok(()),
            }
        }
    })
    .await;
}

/// Runs the approver.
pub(crate) async fn run_approver(context: Context) {
    follow("csr approving", context, |context, csr, _| async move { approve(&context, &csr).await }).await;
}

async fn approve(context: &Context, csr: &Csr) -> Result<(), Error> {
    if certificate(csr).is_some() || has_condition(csr, "Approved") || has_condition(csr, "Denied") {
        return Ok(());
    }
    if csr.spec.signer_name != KUBELET_CLIENT {
        return Ok(());
    }
    let Ok(request) = parse(csr) else { return Ok(()) };
    if policy::check(Signer::KubeletClient, &request, csr.spec.usages.as_deref().unwrap_or_default()).is_err() {
        return Ok(());
    }
    let own = csr.spec.username.as_deref() == Some(&*request.subject.common_name);
    let tries = [
        ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
        ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
    ];
    for (subresource, message) in tries {
        if (subresource == "selfnodeclient" && !own) || !may(context, csr, subresource).await? {
            continue;
        }
        let mut approved = csr.clone();
        let conditions = approved.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.push(condition("Approved", "AutoApproved", message.to_owned()));
        let object = api::to_object(&approved).map_err(|e| Error::Decode(e.source))?;
        let of = Resource { gvr: &Csr::gvr(), namespace: None };
        return context.client.update_object(&of, "approval", &object).await.map(drop);
    }
    Ok(())
}

async fn may(context: &Context, csr: &Csr, subresource: &str) -> Result<bool, Error> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: csr.spec.username.clone(),
            uid: csr.spec.uid.clone(),
            groups: csr.spec.groups.clone(),
            extra: csr.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                verb: Some("create".to_owned()),
                subresource: Some(subresource.to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SubjectAccessReview::default()
    };
    Ok(context.client.create(&review).await?.status.is_some_and(|s| s.allowed))
}

/// Runs the signer; without an authority there is nothing to sign with.
pub(crate) async fn run_signer(context: Context) {
    let Some((cert, key)) = context.options.signer_pem.clone() else {
        return context.shutdown.cancelled().await;
    };
    let pair = match (pki::pem::certificates(&cert).into_iter().next(), Key::from_pem(&key)) {
        (Some(cert), Ok(key)) => Arc::new(Pair { cert, key }),
        (None, _) => {
            tracing::error!("no certificate in the signing authority's file, nothing will be signed");
            return context.shutdown.cancelled().await;
        }
        (_, Err(error)) => {
            tracing::error!(%error, "the signing authority's key is unusable, nothing will be signed");
            return context.shutdown.cancelled().await;
        }
    };
    follow("csr signing", context, move |context, csr, _| {
        let pair = pair.clone();
        async move { sign(&context, &csr, &pair).await }
    })
    .await;
}

async fn sign(context: &Context, csr: &Csr, ca: &Pair) -> Result<(), Error> {
    let ready = has_condition(csr, "Approved") && !has_condition(csr, "Denied") && !has_condition(csr, "Failed");
    let Some(signer) = Signer::of(&csr.spec.signer_name) else { return Ok(()) };
    if !ready || certificate(csr).is_some() {
        return Ok(());
    }
    let usages = csr.spec.usages.clone().unwrap_or_default();
    let checked = parse(csr).and_then(|request| policy::check(signer, &request, &usages).map(|()| request));
    let mut signed = csr.clone();
    let status = signed.status.get_or_insert_default();
    match checked {
        Ok(request) => {
            let longest = context.options.signing_duration;
            let asked = csr.spec.expiration_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
            let life = asked.map_or(longest, |asked| asked.clamp(SHORTEST, longest.max(SHORTEST)));
            let pem = request.sign(ca, policy::usage(&usages), life).map_err(|e| Error::Request(e.to_string()))?;
            status.certificate = Some(ByteString(pem.into_bytes()));
        }
        Err(message) => {
            let conditions = status.conditions.get_or_insert_default();
            conditions.push(condition("Failed", "SignerValidationFailure", message));
        }
    }
    match context.client.update_status(&signed).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Runs the cleaner.
pub(crate) async fn run_cleaner(context: Context) {
    follow("csr cleaning", context, |context, csr, queue| async move { clean(&context, &csr, &queue).await }).await;
}

/// How long until the request may go.
fn time_left(csr: &Csr) -> Option<Duration> {
    let conditions = csr.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let since = |type_: &str| {
        let found = conditions.iter().find(|c| c.type_ == type_)?;
        found.last_update_time.as_ref().or(found.last_transition_time.as_ref()).map(|t| t.0)
    };
    let after = |start: rt::time::Timestamp, life: Duration| life.saturating_sub(rt::time::since(start));
    let issued = certificate(csr);
    let pem = issued.and_then(|c| std::str::from_utf8(c).ok());
    let info = pem.and_then(|pem| Info::parse(pki::pem::certificates(pem).first()?).ok());
    if info.is_some_and(|info| info.not_after < rt::time::unix_seconds()) {
        return Some(Duration::ZERO);
    }
    if let Some(start) = since("Denied").or_else(|| since("Failed")) {
        return Some(after(start, HOUR));
    }
    match (since("Approved"), issued) {
        (Some(start), Some(_)) => Some(after(start, HOUR)),
        _ => csr.metadata.creation_timestamp.as_ref().map(|t| after(t.0, 24 * HOUR)),
    }
}

async fn clean(context: &Context, csr: &Csr, queue: &Queue<String>) -> Result<(), Error> {
    let Some(left) = time_left(csr) else { return Ok(()) };
    if !left.is_zero() {
        queue.add_after(csr.name().to_owned(), left + Duration::from_secs(1));
        return Ok(());
    }
    match context.client.delete::<Csr>("", csr.name(), &DeleteOptions::of(csr.uid())).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}
