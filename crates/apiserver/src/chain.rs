//! The chain that every request runs through, in one function.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use auth_api::{Attributes, Credentials, Decision, UserInfo};
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use meta::{GroupResource, Status};
use registry::Annotate;
use rt::time::{Instant, Timestamp};
use tracing::{debug, error};
use wire::{Body, ConnInfo};

use crate::audit::{Origin, Stage, Trail};
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
    /// The request's audit trail, when it is recorded.
    pub trail: Option<Arc<Trail>>,
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

/// What the inner part of the chain learned, for the outer part to finish with.
#[derive(Default)]
struct Seen {
    trail: OnceLock<Arc<Trail>>,
    /// Uids of the FlowSchema and of its level.
    flow: OnceLock<(String, String)>,
}

/// A request's head with facts that the whole chain needs.
struct Entry {
    head: http::request::Parts,
    query: Query,
    raw_query: String,
    connection: Arc<ConnInfo>,
    received: Timestamp,
    audit_id: String,
}

/// Runs a request: audit start → panic guard → request info → deadline → authn → audit → impersonation → priority and fairness →
/// authz → handler.
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
    let audit_id = audit_id(&headers);
    let apply = info.verb == "patch" && crate::decode::content_type(&headers).starts_with("application/apply-patch");
    let series = crate::metrics::Series::new(&info, query.has("dryRun"), apply);
    let verb = info.verb;
    let long = info.long_running();
    let info_path = info.path.clone();
    if !well_escaped(&info_path) {
        // As Go's server: what is no path is nobody's business.
        let mut response = crate::respond::bytes_response(
            http::StatusCode::BAD_REQUEST,
            "text/plain; charset=utf-8",
            "400 Bad Request",
        );
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    let _counted = (!long).then(|| state.metrics.in_flight(info.read_only() || !info.resource_request));
    let timeout = state.config.request_timeout;
    let finish = state.clone();
    let seen = Seen::default();
    let entry = Entry { head, query, raw_query, connection, received: rt::time::now(), audit_id: audit_id.clone() };
    let limit = deadline(&entry.query, timeout);
    let work = AssertUnwindSafe(handle(state, info, entry, body, identity, &seen)).catch_unwind();
    let outcome = match limit {
        _ if long => work.await,
        Err(status) => Ok(Err(status)),
        Ok(limit) => match rt::time::timeout(limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(Err(Status::timeout("request did not complete within the allotted timeout", 0))),
        },
    };
    let (mut response, failure, panicked) = match outcome {
        Ok(Ok(response)) => (response, None, false),
        Ok(Err(status)) => (status_response(&headers, &status), Some(status), false),
        Err(_) => {
            error!(verb, path = %info_path, "request handler panicked");
            let status = Status::internal("this request caused apiserver to panic. Look in the logs for details.");
            (status_response(&headers, &status), Some(status), true)
        }
    };
    let code = response.status().as_u16();
    if code == 401 {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Ok(id) = HeaderValue::from_str(&audit_id) {
        response.headers_mut().insert("audit-id", id);
    }
    if let Some((schema, level)) = seen.flow.get() {
        for (name, uid) in [("x-kubernetes-pf-flowschema-uid", schema), ("x-kubernetes-pf-prioritylevel-uid", level)] {
            if let Some(value) = HeaderValue::from_str(uid).ok().filter(|v| !v.is_empty()) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    if let Some(trail) = seen.trail.get() {
        response = audit_end(trail, response, failure.as_ref(), panicked, long).await;
    }
    if !long {
        let took = started.elapsed();
        let size = http_body::Body::size_hint(response.body()).exact();
        finish.metrics.observe(&finish, &series, code, took, size);
        debug!(code, millis = took.as_millis() as u64, "request");
    }
    response
}

/// Whether every percent sign of a path begins an escape.
fn well_escaped(path: &str) -> bool {
    let bytes = path.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    bytes.iter().enumerate().all(|(at, byte)| *byte != b'%' || (hex(at + 1) && hex(at + 2)))
}

/// The time that a request may take: what it asks for, at most ours.
fn deadline(query: &Query, longest: Duration) -> Result<Duration, Status> {
    match query.get("timeout") {
        "" => Ok(longest),
        // What lies in the past is no limit.
        text if text.strip_prefix('-').is_some_and(|t| meta::time::parse_go_duration(t).is_some()) => Ok(longest),
        text => match meta::time::parse_go_duration(text) {
            None => {
                let unit = text.parse::<f64>().is_err();
                let why = if unit { "invalid duration" } else { "missing unit in duration" };
                Err(Status::bad_request(format!("invalid timeout specified in the request URL - time: {why} {text:?}")))
            }
            Some(Duration::ZERO) => Ok(longest),
            Some(asked) => Ok(asked.min(longest)),
        },
    }
}

/// The part of the chain inside of guard and deadline.
async fn handle(
    state: Arc<State>,
    info: RequestInfo,
    mut entry: Entry,
    mut body: Body,
    identity: Option<UserInfo>,
    seen: &Seen,
) -> Result<Response<Body>, Status> {
    let user = match identity {
        Some(user) => user,
        None => match authenticate(&state, &entry.head, &entry.connection).await {
            Ok(user) => user,
            Err(status) => {
                audit_begin(&state, &info, &entry, &UserInfo::default(), seen).await?;
                return Err(status);
            }
        },
    };
    audit_begin(&state, &info, &entry, &user, seen).await?;
    let trail = seen.trail.get().cloned();
    if let Some(trail) = trail.as_ref().filter(|t| t.wants_request() && !info.long_running()) {
        let bytes = crate::decode::read(body).await?;
        trail.request_body(&entry.head.headers, &bytes);
        body = wire::full(bytes);
        if trail.wants_response() {
            // The answer's body is to be read, not unpacked first.
            entry.head.headers.remove(header::ACCEPT_ENCODING);
        }
    }
    let asked = attributes(&info, &entry.query, &user);
    let acting = match impersonate::apply(&state, &mut entry.head.headers, &asked).await? {
        None => user,
        Some(acting) => {
            if let Some(trail) = &trail {
                trail.impersonates(&acting.user, &acting.constraint);
            }
            acting.user
        }
    };
    let _permit = admit_in_flight(&state, &info, &acting)?;
    let _seats = match &state.flow {
        None => None,
        Some(flow) => flow.admit(&state, &info, &entry.query, &acting).await?,
    };
    if let Some(admitted) = &_seats {
        // It is set once: a request is sorted once.
        let _ = seen.flow.set(admitted.uids.clone());
    }
    authorize(&state, &info, &entry.query, &acting, trail.as_deref()).await?;
    let call = Call {
        state: state.clone(),
        info,
        query: entry.query,
        raw_query: entry.raw_query,
        user: Arc::new(acting),
        head: entry.head,
        body: parking_lot::Mutex::new(body),
        trail,
    };
    route::handle(call).await
}

async fn audit_begin(
    state: &State,
    info: &RequestInfo,
    entry: &Entry,
    user: &UserInfo,
    seen: &Seen,
) -> Result<(), Status> {
    let Some(auditor) = &state.config.auditor else { return Ok(()) };
    let origin = Origin {
        head: &entry.head,
        connection: &entry.connection,
        audit_id: &entry.audit_id,
        received: entry.received,
    };
    let Some(trail) = Trail::begin(auditor, &attributes(info, &entry.query, user), &origin) else { return Ok(()) };
    let trail = seen.trail.get_or_init(|| trail);
    trail.stage(Stage::RequestReceived).await.map_err(|()| Status::internal("failed to store audit event"))
}

/// The last stages. What a failing back end loses here is counted; the answer is the client's already.
async fn audit_end(
    trail: &Arc<Trail>,
    mut response: Response<Body>,
    failure: Option<&Status>,
    panicked: bool,
    long: bool,
) -> Response<Body> {
    trail.answered(response.status().as_u16(), failure);
    if panicked {
        let _ = trail.stage(Stage::Panic).await;
        return response;
    }
    if long && response.status().is_success() | response.status().is_informational() {
        let _ = trail.stage(Stage::ResponseStarted).await;
        let ending = Ending(trail.clone());
        return response.map(|body| {
            body.map_frame(move |frame| {
                let _held = &ending;
                frame
            })
            .boxed_unsync()
        });
    }
    if trail.wants_response() {
        let (head, body) = response.into_parts();
        let body = match body.collect().await {
            Ok(whole) => {
                let bytes = whole.to_bytes();
                trail.response_body(&head.headers, &bytes);
                wire::full(bytes)
            }
            // The client would have seen it break as well.
            Err(_) => wire::empty(),
        };
        response = Response::from_parts(head, body);
    }
    let _ = trail.stage(Stage::ResponseComplete).await;
    response
}

/// Held by a long answer's body: its end is the request's.
struct Ending(Arc<Trail>);

impl Drop for Ending {
    fn drop(&mut self) {
        let trail = self.0.clone();
        rt::spawn("audit-end", async move { trail.stage(Stage::ResponseComplete).await });
    }
}

fn audit_id(request: &HeaderMap) -> String {
    let given = request.get("audit-id").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty() && v.len() <= 64);
    given.map_or_else(rt::rand::uid, str::to_owned)
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
    let started = Instant::now();
    let outcome = state.config.authenticator.authenticate(&credentials).await;
    let found = outcome.as_ref().map(|found| found.as_ref().map(|found| found.user.name.as_str())).map_err(|_| ());
    crate::auth_metrics::authenticated(found, started.elapsed());
    match outcome {
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
    // The server's own loops must not be starved by clients. Priority and fairness takes the place of the plain limits.
    if state.flow.is_some() || info.long_running() || user.in_group(auth_api::groups::MASTERS) {
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

async fn authorize(
    state: &State,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
    trail: Option<&Trail>,
) -> Result<(), Status> {
    let attributes = attributes(info, query, user);
    let (decision, reason) = decide(state, &attributes).await;
    let allowed = decision == Decision::Allow;
    if let Some(trail) = trail {
        trail.annotate("authorization.k8s.io/decision", if allowed { "allow" } else { "forbid" });
        trail.annotate("authorization.k8s.io/reason", &reason);
    }
    if allowed { Ok(()) } else { Err(denied(&attributes, &reason)) }
}

async fn decide(state: &State, attributes: &Attributes) -> (Decision, String) {
    let started = Instant::now();
    let outcome = state.config.authorizer.authorize(attributes).await;
    crate::auth_metrics::authorized(outcome.as_ref().ok().map(|(decision, _)| *decision), started.elapsed());
    match outcome {
        Ok(decided) => decided,
        Err(error) => (Decision::NoOpinion, error.message),
    }
}

/// Asks the authorizer; a refusal is a 403 in upstream's words.
pub(crate) async fn check(state: &State, attributes: &Attributes) -> Result<(), Status> {
    match decide(state, attributes).await {
        (Decision::Allow, _) => Ok(()),
        (_, reason) => Err(denied(attributes, &reason)),
    }
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
