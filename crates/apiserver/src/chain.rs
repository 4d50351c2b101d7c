//! The chain that every request runs through, in one function.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use auth_api::{Attributes, Credentials, Decision, UserInfo};
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use meta::{GroupResource, Status};
use rt::time::Instant;
use tracing::{debug, error};
use wire::{Body, ConnInfo};

use crate::query::Query;
use crate::reqinfo::RequestInfo;
use crate::respond::status_response;
use crate::server::State;
use crate::{impersonate, route};

/// A request on its way.
pub(crate) struct Call {
    pub state: Arc<State>,
    pub info: RequestInfo,
    pub query: Query,
    pub raw_query: String,
    pub user: Arc<UserInfo>,
    pub head: http::request::Parts,
    /// Behind a lock only because bodies are not `Sync`.
    pub body: parking_lot::Mutex<Body>,
}

impl Call {
    /// Request headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Takes the body, once.
    pub fn take_body(&mut self) -> Body {
        std::mem::replace(self.body.get_mut(), wire::empty())
    }
}

/// Runs a request: panic guard → request info → deadline → authn → impersonation → max in flight → authz → handler.
pub(crate) async fn run(
    state: Arc<State>,
    request: Request<Body>,
    connection: Arc<ConnInfo>,
    identity: Option<UserInfo>,
) -> Response<Body> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let raw_query = head.uri.query().unwrap_or("").to_owned();
    let query = Query::parse(&raw_query);
    let info = RequestInfo::new(&head.method, head.uri.path(), &query);
    let headers = head.headers.clone();
    let labels = (info.verb, info.resource.clone(), info.group.clone(), info.version.clone(), info.subresource.clone());
    let long = info.long_running();
    let timeout = state.config.request_timeout;
    let metrics_state = state.clone();
    let work = async {
        let user = match identity {
            Some(user) => user,
            None => authenticate(&state, &head, &connection).await?,
        };
        let user = impersonate::apply(&state, &head.headers, user).await?;
        let _permit = admit_in_flight(&state, &info, &user)?;
        authorize(&state, &info, &query, &user).await?;
        let call = Call {
            state: state.clone(),
            info,
            query,
            raw_query,
            user: Arc::new(user),
            head,
            body: parking_lot::Mutex::new(body),
        };
        route::handle(call).await
    };
    let guarded = AssertUnwindSafe(work).catch_unwind();
    let outcome = if long {
        guarded.await
    } else {
        match rt::time::timeout(timeout, guarded).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(Err(Status::timeout("request did not complete within the allotted timeout", 0))),
        }
    };
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => status_response(&headers, &status),
        Err(_) => {
            error!(verb = labels.0, resource = %labels.1, "request handler panicked");
            status_response(
                &headers,
                &Status::internal("this request caused apiserver to panic. Look in the logs for details."),
            )
        }
    };
    let code = response.status().as_u16();
    if code == 401 {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    add_audit_id(&headers, &mut response);
    if !long {
        let took = started.elapsed();
        metrics_state.metrics.observe(labels, code, took);
        debug!(code, millis = took.as_millis() as u64, "request");
    }
    response
}

fn add_audit_id(request: &HeaderMap, response: &mut Response<Body>) {
    let given = request.get("audit-id").filter(|v| v.len() <= 64).cloned();
    let id = given.or_else(|| HeaderValue::from_str(&rt::rand::uid()).ok());
    if let Some(id) = id {
        response.headers_mut().insert("audit-id", id);
    }
}

async fn authenticate(state: &State, head: &http::request::Parts, connection: &ConnInfo) -> Result<UserInfo, Status> {
    let authorization = head.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let from_protocol = websocket_token(&head.headers);
    let credentials = Credentials {
        authorization: authorization.or(from_protocol.as_deref()),
        peer_certificates: &connection.peer_certificates,
        headers: Some(&head.headers),
        path: head.uri.path(),
    };
    match state.config.authenticator.authenticate(&credentials).await {
        Ok(Some(found)) => Ok(found.user),
        Ok(None) => Err(Status::unauthorized()),
        Err(error) => {
            debug!(%error, "authentication failed");
            Err(Status::unauthorized())
        }
    }
}

/// Browsers cannot set headers on WebSockets: the token may come as a protocol.
fn websocket_token(headers: &HeaderMap) -> Option<String> {
    use base64::Engine;
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let protocols = headers.get("sec-websocket-protocol")?.to_str().ok()?;
    let encoded = protocols.split(',').find_map(|p| p.trim().strip_prefix(PREFIX))?;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    Some(format!("Bearer {}", String::from_utf8(token).ok()?))
}

fn admit_in_flight<'a>(
    state: &'a State,
    info: &RequestInfo,
    user: &UserInfo,
) -> Result<Option<tokio::sync::SemaphorePermit<'a>>, Status> {
    // The server's own loops must not be starved by clients.
    if info.long_running() || user.in_group(auth_api::groups::MASTERS) {
        return Ok(None);
    }
    let pool = if info.read_only() || !info.resource_request { &state.readonly } else { &state.mutating };
    match pool.try_acquire() {
        Ok(permit) => Ok(Some(permit)),
        Err(_) => Err(Status::too_many_requests("Too many requests, please try again later.", 1)),
    }
}

/// The request as authorizers see it.
pub(crate) fn attributes(info: &RequestInfo, query: &Query, user: &UserInfo) -> Attributes {
    let mut attributes = Attributes {
        user: user.clone(),
        verb: info.verb.to_owned(),
        namespace: info.namespace.clone(),
        api_group: info.group.clone(),
        api_version: info.version.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        name: info.name.clone(),
        resource_request: info.resource_request,
        path: info.path.clone(),
        ..Attributes::default()
    };
    if matches!(info.verb, "list" | "watch" | "deletecollection") {
        let fields = query.get("fieldSelector");
        if !fields.is_empty() {
            attributes.field_selector = meta::selector::FieldSelector::parse(fields).ok();
        }
        let labels = query.get("labelSelector");
        if !labels.is_empty() {
            attributes.label_selector = meta::selector::LabelSelector::parse(labels).ok();
        }
    }
    attributes
}

async fn authorize(state: &State, info: &RequestInfo, query: &Query, user: &UserInfo) -> Result<(), Status> {
    check(state, &attributes(info, query, user)).await
}

/// Asks the authorizer; a refusal is a 403 in upstream's words.
pub(crate) async fn check(state: &State, attributes: &Attributes) -> Result<(), Status> {
    let (decision, reason) = match state.config.authorizer.authorize(attributes).await {
        Ok(decided) => decided,
        Err(error) => (Decision::NoOpinion, error.message),
    };
    if decision == Decision::Allow {
        return Ok(());
    }
    Err(denied(attributes, &reason))
}

/// Upstream's 403.
pub(crate) fn denied(attributes: &Attributes, reason: &str) -> Status {
    let user = &attributes.user.name;
    let suffix = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if !attributes.resource_request {
        let none = GroupResource::default();
        let cause = format!("User {user:?} cannot {} path {:?}{suffix}", attributes.verb, attributes.path);
        return Status::forbidden(&none, "", cause);
    }
    let resource = GroupResource::new(attributes.api_group.clone(), attributes.resource.clone());
    let scope = if attributes.namespace.is_empty() {
        " at the cluster scope".to_owned()
    } else {
        format!(" in the namespace {:?}", attributes.namespace)
    };
    let cause = format!(
        "User {user:?} cannot {} resource {:?} in API group {:?}{scope}{suffix}",
        attributes.verb,
        attributes.combined_resource(),
        attributes.api_group
    );
    Status::forbidden(&resource, &attributes.name, cause)
}
