//! Requests on objects as trees.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use meta::{GroupVersionResource, Object, Status};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::list::{List, ListParams};
use crate::transport::{Body, Transport, body};
use crate::watch::{Decoder, WatchParams, WatchStream};

/// Largest answer that is read whole, in bytes.
const MAX_ANSWER: usize = 1 << 30;
/// How long a call (not a watch) may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const JSON: &str = "application/json";
/// What typed calls ask for: custom kinds and some servers have no protobuf.
pub(crate) const TYPED: &str = "application/vnd.kubernetes.protobuf, application/json";

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) bytes: Bytes,
    /// Whether it is protobuf; JSON otherwise.
    pub(crate) protobuf: bool,
}

/// A collection, and possibly an object and subresource in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource<'a> {
    /// The resource.
    pub gvr: &'a GroupVersionResource,
    /// Namespace, none or empty for all namespaces and cluster-scoped objects.
    pub namespace: Option<&'a str>,
}

/// How a patch is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' strategic merge.
    Strategic,
    /// Server-side apply.
    Apply {
        /// The field manager.
        manager: String,
        /// Whether to take fields from other managers.
        force: bool,
    },
}

impl PatchKind {
    fn media_type(&self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply { .. } => "application/apply-patch+yaml",
        }
    }
}

/// What happens to the objects that a deleted object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go afterwards.
    Background,
    /// They go first.
    Foreground,
}

/// Options of a delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds until the object is removed for good; `Some(0)` is at once.
    pub grace_period_seconds: Option<i64>,
    /// Only when the object has this uid.
    pub uid: Option<String>,
    /// Only when the object has this resource version.
    pub resource_version: Option<String>,
    /// What happens to dependents.
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// At once, only this very object.
    pub fn now(uid: &str) -> Self {
        Self { grace_period_seconds: Some(0), uid: Some(uid.to_owned()), ..Self::default() }
    }

    /// Only this very object.
    pub fn of(uid: &str) -> Self {
        Self { uid: Some(uid.to_owned()), ..Self::default() }
    }

    fn to_value(&self) -> Value {
        let mut value = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = self.grace_period_seconds {
            value["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(uid) = &self.uid {
            value["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            value["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        if let Some(propagation) = self.propagation {
            value["propagationPolicy"] = format!("{propagation:?}").into();
        }
        value
    }
}

/// Calls an API server under one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user_agent: Arc<str>,
}

impl Client {
    /// A client over a transport; the user agent becomes the field manager of updates.
    pub fn new(transport: Arc<dyn Transport>, user_agent: &str) -> Self {
        Self { transport, user_agent: user_agent.into() }
    }

    /// The same transport under another user agent.
    #[must_use]
    pub fn with_user_agent(&self, user_agent: &str) -> Self {
        Self { transport: self.transport.clone(), user_agent: user_agent.into() }
    }

    /// Sends a request and gives the answer's head and unread body, whatever its status code.
    ///
    /// # Errors
    /// The server could not be reached.
    pub async fn raw(
        &self,
        method: Method,
        path_and_query: &str,
        content_type: Option<&str>,
        accept: &str,
        payload: Bytes,
    ) -> Result<http::Response<Body>, Error> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path_and_query)
            .header(header::USER_AGENT, &*self.user_agent)
            .header(header::ACCEPT, accept);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body(payload)).map_err(|e| Error::Request(e.to_string()))?;
        self.transport.send(request).await.map_err(Error::Transport)
    }

    /// Sends a request and reads the whole answer; a failure status becomes an error.
    ///
    /// # Errors
    /// The server could not be reached, or answered with a failure.
    pub fn call<'a>(
        &'a self,
        method: Method,
        path_and_query: &'a str,
        content_type: Option<&'a str>,
        payload: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, Error>> {
        let answer = self.send(method, path_and_query, content_type, JSON, payload);
        Box::pin(async move { answer.await.map(|answer| answer.bytes) })
    }

    /// Sends a request and reads the whole answer in whichever encoding it comes.
    pub(crate) fn send<'a>(
        &'a self,
        method: Method,
        path_and_query: &'a str,
        content_type: Option<&'a str>,
        accept: &'a str,
        payload: Bytes,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        let exchange = async move {
            let answer = self.raw(method, path_and_query, content_type, accept, payload).await?;
            let (status, protobuf) = (answer.status(), is_protobuf(&answer));
            let answer = Answer { bytes: read_all(answer.into_body()).await?, protobuf };
            if status.is_success() { Ok(answer) } else { Err(failure(status, &answer)) }
        };
        // Boxed: one type for all callers keeps their futures small and quick to compile.
        Box::pin(async move {
            rt::time::timeout(CALL_TIMEOUT, exchange)
                .await
                .map_err(|e| Error::Transport(crate::TransportError::new("wait for the answer", e)))?
        })
    }

    async fn send_json(&self, method: Method, path: &str, value: &(impl Serialize + Sync)) -> Result<Object, Error> {
        let payload = serde_json::to_vec(value).map_err(Error::Decode)?;
        let bytes = self.call(method, path, Some(JSON), payload.into()).await?;
        serde_json::from_slice(&bytes).map_err(Error::Decode)
    }

    /// Sends a tree; the answer is for a typed form.
    pub(crate) async fn send_tree(&self, method: Method, path: &str, object: &Object) -> Result<Answer, Error> {
        let payload = serde_json::to_vec(&object.body).map_err(Error::Decode)?;
        self.send(method, path, Some(JSON), TYPED, payload.into()).await
    }

    /// Sends a patch; the answer is in one of the encodings that `accept` names.
    pub(crate) async fn send_patch(
        &self,
        mut path: String,
        kind: &PatchKind,
        patch: &Value,
        accept: &str,
    ) -> Result<Answer, Error> {
        if let PatchKind::Apply { manager, force } = kind {
            path.push_str(&format!("?fieldManager={}&force={force}", encode(manager)));
        }
        let payload = serde_json::to_vec(patch).map_err(Error::Decode)?;
        self.send(Method::PATCH, &path, Some(kind.media_type()), accept, payload.into()).await
    }

    /// Reads an object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_object(&self, of: &Resource<'_>, name: &str) -> Result<Object, Error> {
        let bytes = self.call(Method::GET, &of.path(name, ""), None, Bytes::new()).await?;
        serde_json::from_slice(&bytes).map_err(Error::Decode)
    }

    /// Reads a subresource of an object, such as its `scale`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_object_part(&self, of: &Resource<'_>, name: &str, subresource: &str) -> Result<Object, Error> {
        let bytes = self.call(Method::GET, &of.path(name, subresource), None, Bytes::new()).await?;
        serde_json::from_slice(&bytes).map_err(Error::Decode)
    }

    /// Creates an object, or posts to a subresource when a name and subresource are given.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_object(&self, of: &Resource<'_>, object: &Object) -> Result<Object, Error> {
        self.send_json(Method::POST, &of.path("", ""), &object.body).await
    }

    /// Posts to a subresource (`binding`, `eviction`, `token`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn post_subresource(
        &self,
        of: &Resource<'_>,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Object, Error> {
        self.send_json(Method::POST, &of.path(name, subresource), object).await
    }

    /// Replaces an object, or one of its subresources.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_object(&self, of: &Resource<'_>, subresource: &str, object: &Object) -> Result<Object, Error> {
        let path = of.path(object.name(), subresource);
        self.send_json(Method::PUT, &path, &object.body).await
    }

    /// Patches an object, or one of its subresources.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn patch_object(
        &self,
        of: &Resource<'_>,
        name: &str,
        subresource: &str,
        kind: &PatchKind,
        patch: &Value,
    ) -> Result<Object, Error> {
        let answer = self.send_patch(of.path(name, subresource), kind, patch, JSON).await?;
        serde_json::from_slice(&answer.bytes).map_err(Error::Decode)
    }

    /// Deletes an object. The answer is the object as it now is (or was), or a status.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_object(&self, of: &Resource<'_>, name: &str, options: &DeleteOptions) -> Result<Object, Error> {
        self.send_json(Method::DELETE, &of.path(name, ""), &options.to_value()).await
    }

    /// Deletes all objects that match.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_collection(
        &self,
        of: &Resource<'_>,
        params: &ListParams,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        let path = format!("{}{}", of.path("", ""), params.query());
        let payload = serde_json::to_vec(&options.to_value()).map_err(Error::Decode)?;
        self.call(Method::DELETE, &path, Some(JSON), payload.into()).await.map(drop)
    }

    /// Lists objects as trees.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_objects(&self, of: &Resource<'_>, params: &ListParams) -> Result<List<Object>, Error> {
        self.list_as(of, params).await
    }

    /// Lists objects as any type that decodes from them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_as<T>(&self, of: &Resource<'_>, params: &ListParams) -> Result<List<T>, Error>
    where
        T: serde::de::DeserializeOwned,
    {
        let path = format!("{}{}", of.path("", ""), params.query());
        List::decode(&self.send(Method::GET, &path, None, params.accept(), Bytes::new()).await?.bytes)
    }

    /// Watches objects; the items are decoded by the caller's type.
    ///
    /// # Errors
    /// See [`Error`]; an expired resource version may come here or as the first event.
    pub async fn watch_raw<T>(&self, of: &Resource<'_>, params: &WatchParams) -> Result<WatchStream<T>, Error>
    where
        T: serde::de::DeserializeOwned,
    {
        self.watch_as(of, params, params.accept(), Decoder::of_json()).await
    }

    pub(crate) async fn watch_as<T>(
        &self,
        of: &Resource<'_>,
        params: &WatchParams,
        accept: &str,
        decoder: Decoder<T>,
    ) -> Result<WatchStream<T>, Error> {
        let path = format!("{}{}", of.path("", ""), params.query());
        let answer = self.raw(Method::GET, &path, None, accept, Bytes::new()).await?;
        let (status, protobuf) = (answer.status(), is_protobuf(&answer));
        if status.is_success() {
            return Ok(WatchStream::new(answer.into_body(), protobuf, decoder));
        }
        let answer = Answer { bytes: read_all(answer.into_body()).await?, protobuf };
        Err(failure(status, &answer))
    }
}

impl Resource<'_> {
    pub(crate) fn path(&self, name: &str, subresource: &str) -> String {
        let mut path = self.gvr.path(self.namespace);
        for part in [name, subresource] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(&encode(part));
            }
        }
        path
    }
}

/// Percent-encodes a path segment or query value.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn read_all(mut body: Body) -> Result<Bytes, Error> {
    let fail = |e| Error::Transport(crate::TransportError { operation: "read the answer", source: e });
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(fail)?.into_data() {
            if whole.len() + data.len() > MAX_ANSWER {
                return Err(fail("the answer exceeds the size limit".into()));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

fn is_protobuf(answer: &http::Response<Body>) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/vnd.kubernetes.protobuf")
}

/// A `Status` in either encoding.
pub(crate) fn read_status(bytes: &[u8], protobuf: bool) -> Option<Status> {
    if !protobuf {
        return serde_json::from_slice(bytes).ok();
    }
    let tree = schema::codec::decode_protobuf(bytes).ok()?;
    serde_json::from_value(Value::Object(tree.body)).ok()
}

fn failure(code: StatusCode, answer: &Answer) -> Error {
    let status = read_status(&answer.bytes, answer.protobuf).filter(|s| s.status == "Failure");
    Error::from(status.unwrap_or_else(|| plain_failure(code, &answer.bytes)))
}

/// What a failure that is no `Status` means, in the words of upstream's clients: a path that nobody serves, or the answer of a
/// proxy on the way.
fn plain_failure(code: StatusCode, bytes: &[u8]) -> Status {
    use meta::reason;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]);
    let (reason, message) = match code.as_u16() {
        401 => (reason::UNAUTHORIZED, "the server has asked for the client to provide credentials"),
        404 => (reason::NOT_FOUND, "the server could not find the requested resource"),
        405 => (reason::METHOD_NOT_ALLOWED, "the server does not allow this method on the requested resource"),
        503 => (reason::SERVICE_UNAVAILABLE, "the server is currently unable to handle the request"),
        504 => (reason::TIMEOUT, "the server was unable to return a response in the time allotted"),
        _ => return Status::failure(code.as_u16(), "", format!("the server answered {code}: {}", text.trim())),
    };
    Status::failure(code.as_u16(), reason, message)
}
