//! serviceaccounts/token.

use auth_api::{BoundObject, TokenClaims};
use http::{Response, StatusCode};
use meta::{GroupKind, GroupVersionKind, Object, Status, field};
use registry::Operation;
use serde_json::Value;
use wire::Body;

use crate::chain::Call;
use crate::decode::{self, FieldValidation};
use crate::respond;
use crate::route::Target;

const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
const DEFAULT_SECONDS: i64 = 3600;
/// Tokens that kubelets mount ask for so long and are given a year, so that old clients that never reload go on.
const WARN_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// POST of a TokenRequest.
pub(crate) async fn token(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let Some(issuer) = call.state.config.token_issuer.clone() else { return Ok(crate::route::page_not_found()) };
    let negotiated = crate::negotiate::Negotiated::choose(call.headers(), false, true)?;
    let gvk = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = target.request(call, "CreateOptions")?;
    let validation = FieldValidation::parse(call.query.get("fieldValidation"), "CreateOptions")?;
    let bytes = decode::read(call.take_body()).await?;
    let decoded = decode::built_in(&bytes, decode::media(call.headers())?, &gvk)?;
    validation.judge(&gvk, decoded.strict, &request.warnings)?;
    let mut object = decoded.object;
    if object.get_i64(&["spec", "expirationSeconds"]).is_none() {
        object.set(&["spec", "expirationSeconds"], DEFAULT_SECONDS.into());
    }
    request.kind = gvk.clone();
    let account = target.resource.get_object(&target.namespace, &call.info.name).await?;
    check_names(&object, &account)?;
    for (field, value) in [("name", account.name()), ("namespace", account.namespace())] {
        object.set_meta_str(field, value);
    }
    let admit = call.state.registry.admit();
    let attributes = request.attributes(Operation::Create, &call.info.name, None);
    admit.mutate(&attributes, Some(&mut object)).await?;
    check(&object, call.state.config.max_token_expiration)?;
    admit.validate(&attributes, Some(&object)).await?;
    let mut claims = claims(&object, &account);
    bind(call, target, &object, &mut claims).await?;
    let limit = call.state.config.max_token_expiration;
    if limit > 0 {
        claims.expiration_seconds = claims.expiration_seconds.min(limit);
    }
    let extended = claims.expiration_seconds == WARN_SECONDS && claims.audiences == issuer.default_audiences();
    let shown = claims.expiration_seconds;
    if extended {
        claims.warn_after_seconds = Some(WARN_SECONDS);
        claims.expiration_seconds = EXTENDED_SECONDS;
    }
    let (token, expires) = issuer.issue(&claims).await.map_err(Status::internal)?;
    let expires = if extended { expires - EXTENDED_SECONDS + shown } else { expires };
    let stamp = rt::time::Timestamp::from_second(expires).map(meta::time::format_seconds).unwrap_or_default();
    object.set(&["status", "token"], token.into());
    object.set(&["status", "expirationTimestamp"], stamp.into());
    object.set(&["spec", "audiences"], claims.audiences.clone().into());
    object.set_meta_str("creationTimestamp", &meta::time::format_seconds(rt::time::now()));
    schema::codec::normalize(&mut object).map_err(Status::internal)?;
    let mut response = respond::tree_response(call.headers(), StatusCode::CREATED, &negotiated, &object)?;
    respond::add_warnings(&mut response, request.warnings.take());
    Ok(response)
}

fn check_names(object: &Object, account: &Object) -> Result<(), Status> {
    if !object.name().is_empty() && object.name() != account.name() {
        return Err(Status::bad_request("metadata.name must match the name of the service account"));
    }
    if !object.namespace().is_empty() && object.namespace() != account.namespace() {
        return Err(Status::bad_request("metadata.namespace must match the namespace of the service account"));
    }
    Ok(())
}

fn check(object: &Object, _max: i64) -> Result<(), Status> {
    let seconds = object.get_i64(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    let path = field::Path::new("spec").child("expirationSeconds");
    let detail = match seconds {
        s if s < MIN_SECONDS => "may not specify a duration less than 10 minutes",
        s if s > MAX_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let error = field::Error::invalid(&path, seconds, detail);
    Err(Status::invalid(&GroupKind::new("authentication.k8s.io", "TokenRequest"), "", &[error]))
}

fn claims(object: &Object, account: &Object) -> TokenClaims {
    let audiences = object.get(&["spec", "audiences"]).and_then(Value::as_array);
    TokenClaims {
        namespace: account.namespace().to_owned(),
        name: account.name().to_owned(),
        uid: account.uid().to_owned(),
        audiences: audiences
            .map(|l| l.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default(),
        expiration_seconds: object.get_i64(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS),
        bound: None,
        node: None,
        warn_after_seconds: None,
    }
}

/// Looks up what the token is bound to and fills in the claims.
async fn bind(call: &Call, target: &Target, object: &Object, claims: &mut TokenClaims) -> Result<(), Status> {
    if claims.audiences.is_empty()
        && let Some(issuer) = &call.state.config.token_issuer
    {
        claims.audiences = issuer.default_audiences();
    }
    let reference = |field: &str| object.get_str(&["spec", "boundObjectRef", field]).to_owned();
    if object.get(&["spec", "boundObjectRef"]).is_none_or(Value::is_null) {
        return Ok(());
    }
    let (kind, name, uid) = (reference("kind"), reference("name"), reference("uid"));
    let (plural, namespace) = match (reference("apiVersion").as_str(), kind.as_str()) {
        ("v1", "Pod") => ("pods", target.namespace.as_str()),
        ("v1", "Secret") => ("secrets", target.namespace.as_str()),
        ("v1", "Node") => ("nodes", ""),
        (version, kind) => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to object type {version}, Kind={kind}",
                claims.name
            )));
        }
    };
    let bound = call.state.registry.get_object("", plural, namespace, &name).await?;
    if !uid.is_empty() && uid != bound.uid() {
        let cause = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&meta::GroupResource::new("", plural), &name, cause));
    }
    if kind == "Pod" {
        let account = bound.get_str(&["spec", "serviceAccountName"]);
        if account != claims.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                claims.name
            )));
        }
        let node = bound.get_str(&["spec", "nodeName"]);
        if !node.is_empty() {
            let found = call.state.registry.get_object("", "nodes", "", node).await;
            let uid = found.map(|n| n.uid().to_owned()).unwrap_or_default();
            claims.node = Some((node.to_owned(), uid));
        }
    }
    claims.bound = Some(BoundObject { kind, name, uid: bound.uid().to_owned() });
    Ok(())
}
