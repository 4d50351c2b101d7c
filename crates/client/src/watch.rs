//! Watches.

use api::Kind;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::call::read_status;
use crate::error::{Error, TransportError};
use crate::list::join_query;
use crate::transport::Body;

/// Largest event, in bytes.
const MAX_EVENT: usize = 64 << 20;

/// What to watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchParams {
    /// Label selector in its string form.
    pub label_selector: String,
    /// Field selector in its string form.
    pub field_selector: String,
    /// Events after this version.
    pub resource_version: String,
    /// Whether the server starts with the objects there are, and marks their end with a bookmark.
    pub send_initial_events: bool,
    /// Seconds until the server ends the stream, 0 for its own choice.
    pub timeout_seconds: u64,
    /// Only kind, version and metadata of each object.
    pub metadata_only: bool,
}

impl WatchParams {
    pub(crate) fn accept(&self) -> &'static str {
        if self.metadata_only {
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        } else {
            "application/json"
        }
    }

    pub(crate) fn query(&self) -> String {
        let timeout = if self.timeout_seconds == 0 { String::new() } else { self.timeout_seconds.to_string() };
        let (initial, matching) = if self.send_initial_events { ("true", "NotOlderThan") } else { ("", "") };
        join_query(&[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("resourceVersion", &self.resource_version),
            ("sendInitialEvents", initial),
            ("resourceVersionMatch", matching),
            ("timeoutSeconds", &timeout),
        ])
    }
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent<T> {
    /// The object came to be, or came to match.
    Added(T),
    /// The object changed.
    Modified(T),
    /// The object went away, or matches no more; this is its last state.
    Deleted(T),
    /// Everything up to this version was sent.
    Bookmark {
        /// The version.
        resource_version: String,
        /// Whether the initial events end here.
        initial_events_end: bool,
    },
}

/// How the objects of events are read, in both encodings.
pub(crate) struct Decoder<T> {
    json: fn(&[u8]) -> Result<T, Error>,
    protobuf: fn(&[u8]) -> Result<T, Error>,
}

impl<T: DeserializeOwned> Decoder<T> {
    /// Any form that is read from JSON; protobuf must not have been asked for.
    pub(crate) fn of_json() -> Self {
        Self {
            json: |bytes| serde_json::from_slice(bytes).map_err(Error::Decode),
            protobuf: |_| Err(Error::Request("the server sent protobuf that was not asked for".into())),
        }
    }
}

impl<T: Kind> Decoder<T> {
    /// A typed kind.
    pub(crate) fn of_kind() -> Self {
        Self {
            json: |bytes| api::from_json(bytes).map_err(|e| Error::Decode(e.source)),
            protobuf: |bytes| T::decode(bytes, 0).map_err(|e| Error::Decode(e.source)),
        }
    }
}

#[derive(Deserialize)]
struct Frame<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct BookmarkObject {
    metadata: BookmarkMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BookmarkMeta {
    resource_version: String,
    annotations: std::collections::BTreeMap<String, String>,
}

/// Events in order. Dropping it ends the watch.
pub struct WatchStream<T> {
    body: Body,
    buffer: BytesMut,
    scanned: usize,
    protobuf: bool,
    decoder: Decoder<T>,
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Transport(TransportError::new("read the watch", error))
}

impl<T> WatchStream<T> {
    pub(crate) fn new(body: Body, protobuf: bool, decoder: Decoder<T>) -> Self {
        Self { body, buffer: BytesMut::new(), scanned: 0, protobuf, decoder }
    }

    /// The next event; `None` when the server has ended the stream. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, the server sent an `ERROR` event (its status is given), or an event does not decode.
    pub async fn next(&mut self) -> Result<Option<WatchEvent<T>>, Error> {
        loop {
            if let Some(event) = self.cut() {
                return self.decode(&event).map(Some);
            }
            if self.buffer.len() > MAX_EVENT {
                return Err(broken("an event exceeds the size limit"));
            }
            match self.body.frame().await {
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None if self.protobuf => return Err(broken("the stream ended within an event")),
                // The last event need not end in a newline.
                None => {
                    let rest = self.buffer.split().freeze();
                    self.scanned = 0;
                    return self.decode(&rest).map(Some);
                }
                Some(Err(e)) => return Err(broken(e)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        if self.buffer.is_empty() {
                            // What a large event took is given back: streams are silent most of the time.
                            self.buffer = BytesMut::new();
                        }
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// Takes one whole event out of the buffer.
    fn cut(&mut self) -> Option<Bytes> {
        if self.protobuf {
            let length = u32::from_be_bytes(*self.buffer.first_chunk::<4>()?) as usize;
            if self.buffer.len() - 4 < length {
                return None;
            }
            self.buffer.advance(4);
            return Some(self.buffer.split_to(length).freeze());
        }
        while let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
            let line = self.buffer.split_to(self.scanned + at);
            self.buffer.advance(1);
            self.scanned = 0;
            if !line.is_empty() {
                return Some(line.freeze());
            }
        }
        self.scanned = self.buffer.len();
        None
    }

    fn decode(&self, bytes: &[u8]) -> Result<WatchEvent<T>, Error> {
        if self.protobuf {
            let wrong = |e| Error::Decode(serde::de::Error::custom(e));
            let (kind, object) = schema::codec::open_protobuf_watch_event(bytes).map_err(wrong)?;
            return event(kind, object, self.decoder.protobuf, true);
        }
        let frame: Frame<'_> = serde_json::from_slice(bytes).map_err(Error::Decode)?;
        event(frame.r#type, frame.object.get().as_bytes(), self.decoder.json, false)
    }
}

fn event<T>(
    kind: &str,
    object: &[u8],
    read: fn(&[u8]) -> Result<T, Error>,
    protobuf: bool,
) -> Result<WatchEvent<T>, Error> {
    match kind {
        "ADDED" => read(object).map(WatchEvent::Added),
        "MODIFIED" => read(object).map(WatchEvent::Modified),
        "DELETED" => read(object).map(WatchEvent::Deleted),
        "BOOKMARK" => {
            let bookmark = read_bookmark(object, protobuf)?;
            Ok(WatchEvent::Bookmark {
                resource_version: bookmark.metadata.resource_version,
                initial_events_end: bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end"),
            })
        }
        "ERROR" => {
            let status = read_status(object, protobuf);
            Err(status.map_or_else(|| Error::Request("the server sent an error that is none".into()), Error::from))
        }
        other => Err(Error::Request(format!("unknown watch event type {other:?}"))),
    }
}

fn read_bookmark(object: &[u8], protobuf: bool) -> Result<BookmarkObject, Error> {
    if !protobuf {
        return serde_json::from_slice(object).map_err(Error::Decode);
    }
    let tree = schema::codec::decode_protobuf(object).map_err(|e| Error::Decode(serde::de::Error::custom(e)))?;
    serde_json::from_value(tree.body.into()).map_err(Error::Decode)
}

#[cfg(test)]
mod tests;
