//! watch.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use meta::{GroupKind, GroupVersionKind, Object, Status};
use registry::{FrameForm, Raw, Watch, WatchItem};
use rt::time::Instant;
use serde_json::{Map, json};
use wire::{Body, BoxError};

use super::list_options;
use crate::chain::Call;
use crate::negotiate::{Media, Negotiated, Shape};
use crate::respond::{Form, encode_tree, shape_object};
use crate::route::Target;
use crate::server::State;

/// Events gathered into one write at most.
const GATHER: usize = 64;
const INITIAL_END: &str = "k8s.io/initial-events-end";

struct Running {
    watch: Watch,
    encoder: Encoder,
    deadline: Instant,
    shutdown: rt::Shutdown,
    ended: bool,
    sent: Arc<telemetry::metrics::Counter>,
    _counted: crate::metrics::Held,
    _state: Arc<State>,
}

/// What turns items into frames.
struct Encoder {
    resource: Arc<registry::Resource>,
    gvk: GroupVersionKind,
    negotiated: Negotiated,
    include_object: String,
    first: bool,
}

/// Streams changes.
pub(crate) async fn watch(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let negotiated = watch_form(call, target)?;
    let options = list_options(call, target)?;
    let errors = registry::validate_watch(&options, call.query.get("resourceVersionMatch"));
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::new("meta.k8s.io", "ListOptions"), "", &errors));
    }
    let timeout = match call.query.int("timeoutSeconds") {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
        _ => call.state.config.min_request_timeout.mul_f64(1.0 + rt::rand::fraction()),
    };
    let watch = Watch::start(target.resource.clone(), options, Some(timeout)).await?;
    let content_type = match negotiated.media {
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let encoder = Encoder {
        resource: target.resource.clone(),
        gvk: target.gvk.clone(),
        negotiated,
        include_object: call.query.get("includeObject").to_owned(),
        first: true,
    };
    let running = Running {
        watch,
        encoder,
        deadline: Instant::now() + timeout,
        shutdown: call.state.config.shutdown.clone(),
        ended: false,
        sent: call.state.metrics.watch_events(&call.info),
        _counted: call.state.metrics.long_running(&call.info),
        _state: call.state.clone(),
    };
    let frames = stream::unfold(running, |mut running| async move {
        let chunk = running.next().await?;
        Some((Ok::<_, BoxError>(Frame::data(chunk)), running))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

/// A watch has no YAML; everything else as for lists. `PartialObjectMetadataList` makes no sense here.
fn watch_form(call: &Call, target: &Target) -> Result<Negotiated, Status> {
    let negotiated = target.negotiate(call)?;
    match (negotiated.media, negotiated.shape) {
        (Media::Yaml, _) | (_, Shape::MetadataList) => Err(Status::not_acceptable(&[
            "application/json;stream=watch",
            "application/vnd.kubernetes.protobuf;stream=watch",
        ])),
        _ => Ok(negotiated),
    }
}

impl Running {
    /// The next chunk: one event, and what else is ready.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let deadline = self.deadline;
        let item = rt::select! {
            item = self.watch.next() => item?,
            () = rt::time::sleep_until(deadline) => return None,
            () = self.shutdown.cancelled() => return None,
        };
        let first = self.frame(item);
        let Some(second) = self.watch.try_next() else { return Some(first) };
        let mut all = BytesMut::from(&first[..]);
        let more = self.frame(second);
        all.extend_from_slice(&more);
        for _ in 0..GATHER {
            let Some(item) = self.watch.try_next() else { break };
            let frame = self.frame(item);
            all.extend_from_slice(&frame);
        }
        Some(all.freeze())
    }

    fn frame(&mut self, item: WatchItem) -> Bytes {
        self.sent.add(1);
        if matches!(item, WatchItem::Error(_)) {
            self.ended = true;
        }
        match self.encoder.frame(item) {
            Ok(bytes) => bytes,
            Err(status) => {
                self.ended = true;
                self.encoder.error(&status)
            }
        }
    }
}

impl Encoder {
    fn form(&self) -> Form<'_> {
        Form {
            row: &self.resource.row,
            gvk: self.gvk.clone(),
            negotiated: &self.negotiated,
            include_object: &self.include_object,
        }
    }

    fn wrap(&self, kind: &str, object: &[u8]) -> Bytes {
        match self.negotiated.media {
            Media::Protobuf => schema::codec::protobuf_watch_event(kind, object).into(),
            _ => schema::codec::json_watch_event(kind, object).into(),
        }
    }

    fn frame(&mut self, item: WatchItem) -> Result<Bytes, Status> {
        match item {
            WatchItem::Error(status) => Ok(self.error(&status)),
            WatchItem::Bookmark { revision, initial_end } => self.bookmark(revision, initial_end),
            WatchItem::Event { kind, entry, revision, shared } => {
                let form = self.form();
                let raw = Raw { value: entry.raw.value.clone(), revision };
                if form.direct() {
                    let mut failure = None;
                    let mut make = || match self.object(&form, &raw) {
                        Ok(bytes) => self.wrap(kind.as_str(), &bytes),
                        Err(status) => {
                            failure = Some(status);
                            Bytes::new()
                        }
                    };
                    let shape =
                        if self.negotiated.media == Media::Protobuf { FrameForm::Protobuf } else { FrameForm::Json };
                    let bytes = match &shared {
                        Some(event) => event.shared_frame(shape, make),
                        None => make(),
                    };
                    return failure.map_or(Ok(bytes), Err);
                }
                let frame = self.wrap(kind.as_str(), &self.object(&form, &raw)?);
                self.first = false;
                Ok(frame)
            }
        }
    }

    /// An event's object in the shape and encoding of the watch.
    fn object(&self, form: &Form<'_>, raw: &Raw) -> Result<Vec<u8>, Status> {
        if let Some(bytes) = form.shaped_bytes(raw)? {
            return Ok(bytes);
        }
        let tree = form.tree(raw)?;
        let shaped = if form.negotiated.itself() { tree } else { shape_object(form, &tree, self.first)? };
        encode_tree(&shaped, self.negotiated.media)
    }

    fn bookmark(&self, revision: i64, initial_end: bool) -> Result<Bytes, Status> {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".into(), revision.to_string().into());
        if initial_end {
            metadata.insert("annotations".into(), json!({ INITIAL_END: "true" }));
        }
        let mut object = match self.negotiated.shape {
            Shape::Itself => Object::new(&self.gvk),
            Shape::Table => {
                let mut table = Object::default();
                table.body.insert("rows".into(), json!([]));
                table.body.insert("columnDefinitions".into(), json!([]));
                table.body.insert("kind".into(), "Table".into());
                table.body.insert("apiVersion".into(), self.negotiated.shape_api_version().into());
                table
            }
            _ => {
                let mut partial = Object::default();
                partial.body.insert("kind".into(), "PartialObjectMetadata".into());
                partial.body.insert("apiVersion".into(), self.negotiated.shape_api_version().into());
                partial
            }
        };
        if self.negotiated.shape != Shape::Table {
            metadata.insert("creationTimestamp".into(), serde_json::Value::Null);
        }
        object.body.insert("metadata".into(), metadata.into());
        Ok(self.wrap("BOOKMARK", &encode_tree(&object, self.negotiated.media)?))
    }

    fn error(&self, status: &Status) -> Bytes {
        let object = Object::from_value(status.to_value()).unwrap_or_default();
        let bytes = encode_tree(&object, self.negotiated.media).unwrap_or_else(|_| schema::codec::to_json(&object));
        self.wrap("ERROR", &bytes)
    }
}
