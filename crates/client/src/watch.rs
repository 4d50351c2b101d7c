//! Watches.

use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use meta::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

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
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> WatchStream<T> {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), scanned: 0, of: PhantomData }
    }

    /// The next event; `None` when the server has ended the stream. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, the server sent an `ERROR` event (its status is given), or an event does not decode.
    pub async fn next(&mut self) -> Result<Option<WatchEvent<T>>, Error> {
        let broken =
            |e: Box<dyn std::error::Error + Send + Sync>| Error::Transport(TransportError::new("read the watch", e));
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let end = self.scanned + at;
                let event = if end == 0 { None } else { Some(decode(&self.buffer[..end])) };
                self.buffer.advance(end + 1);
                self.scanned = 0;
                match event {
                    Some(event) => return event.map(Some),
                    None => continue,
                }
            }
            self.scanned = self.buffer.len();
            if self.scanned > MAX_EVENT {
                return Err(broken("an event exceeds the size limit".into()));
            }
            match self.body.frame().await {
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                // The last event need not end in a newline.
                None => {
                    let rest = self.buffer.split();
                    self.scanned = 0;
                    return decode(&rest).map(Some);
                }
                Some(Err(e)) => return Err(broken(e)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<WatchEvent<T>, Error> {
    let frame: Frame<'_> = serde_json::from_slice(bytes).map_err(Error::Decode)?;
    let object = frame.object.get();
    match frame.r#type {
        "ADDED" => serde_json::from_str(object).map(WatchEvent::Added).map_err(Error::Decode),
        "MODIFIED" => serde_json::from_str(object).map(WatchEvent::Modified).map_err(Error::Decode),
        "DELETED" => serde_json::from_str(object).map(WatchEvent::Deleted).map_err(Error::Decode),
        "BOOKMARK" => {
            let bookmark: BookmarkObject = serde_json::from_str(object).map_err(Error::Decode)?;
            Ok(WatchEvent::Bookmark {
                resource_version: bookmark.metadata.resource_version,
                initial_events_end: bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end"),
            })
        }
        "ERROR" => Err(Error::from(serde_json::from_str::<Status>(object).map_err(Error::Decode)?)),
        other => Err(Error::Request(format!("unknown watch event type {other:?}"))),
    }
}
