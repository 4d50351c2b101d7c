//! One request's trail: the event that grows with it, and the stages at which it is recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use auth_api::{Attributes, UserInfo};
use http::HeaderMap;
use meta::{Object, Status};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::ConnInfo;

use super::Auditor;
use super::policy::{Level, Wanted};

/// Longest user agent that is recorded.
const MAX_AGENT: usize = 1024;

/// When an event is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Before the request is handled.
    #[default]
    RequestReceived,
    /// A long-running request has begun to be answered.
    ResponseStarted,
    /// It has been answered.
    ResponseComplete,
    /// Its handler panicked.
    Panic,
}

/// `authentication.k8s.io` UserInfo.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct User {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

impl From<&UserInfo> for User {
    fn from(user: &UserInfo) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

/// What a request is about.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

/// `audit.k8s.io/v1 Event`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    kind: &'static str,
    api_version: &'static str,
    pub level: Level,
    #[serde(rename = "auditID")]
    pub audit_id: String,
    pub stage: Stage,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub verb: String,
    user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_metadata: Option<Value>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Value>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Event {
    /// The event, without its bodies when it is larger than `limit` bytes; `None` when it still is.
    pub fn within(self: Arc<Self>, limit: usize) -> Option<Arc<Self>> {
        let size = |event: &Self| serde_json::to_string(event).map_or(0, |text| text.len());
        if size(&self) <= limit {
            return Some(self);
        }
        if self.level < Level::Request {
            return None;
        }
        let mut short = (*self).clone();
        (short.request_object, short.response_object) = (None, None);
        short.annotations.insert("audit.k8s.io/truncated".into(), "true".into());
        (size(&short) <= limit).then(|| Arc::new(short))
    }

    /// For the log's old format.
    pub fn legacy_line(&self) -> String {
        let quote = |text: &str| if text.is_empty() { "\"<none>\"".to_owned() } else { format!("{text:?}") };
        let groups = |user: &User| {
            let each: Vec<String> = user.groups.iter().map(|g| format!("{g:?}")).collect();
            if each.is_empty() { "\"<none>\"".to_owned() } else { each.join(",") }
        };
        let imitated = self.impersonated_user.as_ref();
        let code = self.response_status.as_ref().and_then(|s| s["code"].as_u64());
        format!(
            "{} AUDIT: id={:?} stage={:?} ip={:?} method={:?} user={} groups={} as={} asgroups={} user-agent={:?} \
             namespace={} uri={:?} response={:?}",
            self.stage_timestamp,
            self.audit_id,
            format!("{:?}", self.stage),
            self.source_ips.first().map_or("<unknown>", String::as_str),
            self.verb,
            quote(&self.user.username),
            groups(&self.user),
            imitated.map_or("\"<self>\"".to_owned(), |u| quote(&u.username)),
            imitated.map_or("\"<lookup>\"".to_owned(), groups),
            self.user_agent,
            quote(self.object_ref.as_ref().map_or("", |o| &o.namespace)),
            self.request_uri,
            code.map_or("<deferred>".to_owned(), |c| c.to_string()),
        )
    }
}

/// The trail of a request that the policy wants recorded.
pub(crate) struct Trail {
    auditor: Arc<Auditor>,
    wanted: Wanted,
    event: Mutex<Event>,
}

/// What is known of a request before it is handled.
pub(crate) struct Origin<'a> {
    pub head: &'a http::request::Parts,
    pub connection: &'a ConnInfo,
    pub audit_id: &'a str,
    pub received: rt::time::Timestamp,
}

impl Trail {
    /// The trail, if the policy wants one.
    pub fn begin(auditor: &Arc<Auditor>, attributes: &Attributes, origin: &Origin<'_>) -> Option<Arc<Self>> {
        let wanted = auditor.policy.evaluate(attributes);
        if wanted.level == Level::None {
            return None;
        }
        let object_ref = attributes.resource_request.then(|| ObjectRef {
            resource: attributes.resource.clone(),
            namespace: attributes.namespace.clone(),
            name: attributes.name.clone(),
            api_group: attributes.api_group.clone(),
            api_version: attributes.api_version.clone(),
            subresource: attributes.subresource.clone(),
            ..ObjectRef::default()
        });
        let uri = &origin.head.uri;
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: wanted.level,
            audit_id: origin.audit_id.to_owned(),
            request_uri: uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string),
            verb: attributes.verb.clone(),
            user: User::from(&attributes.user),
            source_ips: source_ips(&origin.head.headers, origin.connection),
            user_agent: user_agent(&origin.head.headers),
            object_ref,
            request_received_timestamp: meta::time::format_micros(origin.received),
            ..Event::default()
        };
        Some(Arc::new(Self { auditor: auditor.clone(), wanted, event: Mutex::new(event) }))
    }

    /// Whether the request's body is recorded.
    pub fn wants_request(&self) -> bool {
        self.wanted.level >= Level::Request
    }

    /// Whether the answer's body is recorded.
    pub fn wants_response(&self) -> bool {
        self.wanted.level >= Level::RequestResponse
    }

    /// Records the event at a stage, unless the policy omits it.
    ///
    /// # Errors
    /// A back end that must not lose anything could not take it.
    pub async fn stage(&self, stage: Stage) -> Result<(), ()> {
        if self.wanted.omit_stages.contains(&stage) {
            return Ok(());
        }
        let event = {
            let mut event = self.event.lock();
            event.stage = stage;
            event.stage_timestamp = meta::time::format_micros(rt::time::now());
            Arc::new(event.clone())
        };
        self.auditor.record(event).await
    }

    /// The user that the request acts as.
    pub fn impersonates(&self, user: &UserInfo, constraint: &str) {
        let mut event = self.event.lock();
        event.impersonated_user = Some(User::from(user));
        if !constraint.is_empty() {
            event.authentication_metadata = Some(json!({"impersonationConstraint": constraint}));
        }
    }

    /// What the request's object says that its path did not.
    pub fn object(&self, object: &Object) {
        let mut event = self.event.lock();
        let reference = event.object_ref.get_or_insert_default();
        for (field, value) in [
            (&mut reference.namespace, object.namespace()),
            (&mut reference.name, object.name()),
            (&mut reference.uid, object.uid()),
            (&mut reference.resource_version, object.resource_version()),
        ] {
            if field.is_empty() {
                value.clone_into(field);
            }
        }
    }

    /// The request's body.
    pub fn request_body(&self, headers: &HeaderMap, body: &[u8]) {
        if self.wants_request() && !body.is_empty() {
            self.event.lock().request_object = self.readable(headers, body);
        }
    }

    /// The answer's body.
    pub fn response_body(&self, headers: &HeaderMap, body: &[u8]) {
        if self.wants_response() && !body.is_empty() {
            self.event.lock().response_object = self.readable(headers, body);
        }
    }

    fn readable(&self, headers: &HeaderMap, body: &[u8]) -> Option<Value> {
        let mut value = match crate::decode::content_type(headers).as_str() {
            "application/vnd.kubernetes.protobuf" => Value::from(schema::codec::decode_protobuf(body).ok()?),
            text if text.contains("yaml") => serde_yaml_ng::from_slice(body).ok()?,
            _ => serde_json::from_slice(body).ok()?,
        };
        if self.wanted.omit_managed_fields {
            drop_managed_fields(&mut value);
            let lists = [value.get_mut("items").map(Value::take), value.get_mut("rows").map(Value::take)];
            for (name, list) in ["items", "rows"].into_iter().zip(lists) {
                if let Some(Value::Array(mut all)) = list {
                    for item in &mut all {
                        match item.get_mut("object") {
                            Some(object) if name == "rows" => drop_managed_fields(object),
                            _ => drop_managed_fields(item),
                        }
                    }
                    value[name] = Value::Array(all);
                }
            }
        }
        Some(value)
    }

    /// The answer's code, and what a failure says.
    pub fn answered(&self, code: u16, failure: Option<&Status>) {
        let mut status = json!({"metadata": {}});
        if let Some(failure) = failure {
            status["status"] = "Failure".into();
            status["message"] = failure.message.clone().into();
            if !failure.reason.is_empty() {
                status["reason"] = failure.reason.clone().into();
            }
            if let Some(details) = failure.to_value().get("details") {
                status["details"] = details.clone();
            }
        }
        status["code"] = code.into();
        self.event.lock().response_status = Some(status);
    }
}

impl registry::Annotate for Trail {
    fn annotate(&self, key: &str, value: &str) {
        let mut event = self.event.lock();
        if !event.annotations.contains_key(key) {
            event.annotations.insert(key.to_owned(), value.to_owned());
        }
    }

    fn records_bodies(&self) -> bool {
        self.wants_request()
    }
}

fn drop_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// Forwarded addresses, then the real one, then the connection's, without repeating the last.
fn source_ips(headers: &HeaderMap, connection: &ConnInfo) -> Vec<String> {
    let parse = |text: &str| text.trim().parse::<std::net::IpAddr>().ok().map(|ip| ip.to_string());
    let mut all: Vec<String> = header(headers, "x-forwarded-for").split(',').filter_map(parse).collect();
    if let Some(real) = parse(header(headers, "x-real-ip"))
        && !all.contains(&real)
    {
        all.push(real);
    }
    if let Some(remote) = connection.remote.map(|a| a.ip().to_string())
        && all.last() != Some(&remote)
    {
        all.push(remote);
    }
    all
}

fn user_agent(headers: &HeaderMap) -> String {
    let text = header(headers, "user-agent");
    if text.len() <= MAX_AGENT { text.to_owned() } else { format!("{}...TRUNCATED", &text[..MAX_AGENT]) }
}
