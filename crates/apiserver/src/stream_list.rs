//! Large lists, encoded while they are sent.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use meta::Status;
use registry::Entry;
use schema::codec::{JsonListWriter, ListMeta, ProtobufListWriter};
use wire::{Body, BoxError, Gzip};

use crate::negotiate::Media;
use crate::respond::takes_gzip;

/// A chunk is sent when it has grown to this.
const CHUNK: usize = 256 * 1024;

enum Writer {
    Json(JsonListWriter),
    Protobuf(ProtobufListWriter),
}

struct State {
    entries: Vec<Arc<Entry>>,
    next: usize,
    writer: Option<Writer>,
    gzip: Option<Gzip>,
    /// Encoded and not yet sent.
    out: Vec<u8>,
}

/// Streams a list of stored protobuf objects in their stored version.
///
/// # Errors
/// A stored object is damaged where its size is found.
pub(crate) fn respond(
    request: &HeaderMap,
    media: Media,
    api_version: &str,
    kind: &str,
    meta: &ListMeta,
    entries: Vec<Arc<Entry>>,
) -> Result<Response<Body>, Status> {
    let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
    let writer = if media == Media::Protobuf {
        let mut total = 0;
        for entry in &entries {
            total += ProtobufListWriter::item_len(&entry.raw.value, entry.raw.revision.unsigned_abs())
                .map_err(Status::internal)?;
        }
        Writer::Protobuf(ProtobufListWriter::begin(&mut out, api_version, kind, meta, total).map_err(Status::internal)?)
    } else {
        Writer::Json(JsonListWriter::begin(&mut out, api_version, kind, meta))
    };
    let gzip = takes_gzip(request).then(Gzip::new);
    let compressed = gzip.is_some();
    let state = State { entries, next: 0, writer: Some(writer), gzip, out };
    let frames = stream::unfold(state, |mut state| async move {
        let chunk = state.chunk()?;
        Some((chunk.map(Frame::data), state))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    Ok(response)
}

impl State {
    /// The next chunk; `None` at the end.
    fn chunk(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            self.writer.as_ref()?;
            while self.out.len() < CHUNK && self.next < self.entries.len() {
                let entry = &self.entries[self.next];
                self.next += 1;
                let (value, version) = (&entry.raw.value, entry.raw.revision.unsigned_abs());
                let done = match &mut self.writer {
                    Some(Writer::Json(writer)) => writer.protobuf(&mut self.out, value, version),
                    Some(Writer::Protobuf(writer)) => writer.item(&mut self.out, value, version),
                    None => Ok(()),
                };
                if let Err(error) = done {
                    self.writer = None;
                    return Some(Err(error.into()));
                }
            }
            let ended = self.next == self.entries.len();
            if ended {
                match self.writer.take() {
                    Some(Writer::Json(writer)) => writer.end(&mut self.out),
                    Some(Writer::Protobuf(writer)) => writer.end(&mut self.out),
                    None => {}
                }
            }
            let plain = std::mem::replace(&mut self.out, Vec::with_capacity(CHUNK + CHUNK / 4));
            let Some(gzip) = &mut self.gzip else { return Some(Ok(plain.into())) };
            // Writing to memory cannot fail.
            let _ = gzip.write_all(&plain);
            let ready = if ended { gzip.finish() } else { gzip.take() };
            if !ready.is_empty() || ended {
                return Some(Ok(ready.into()));
            }
        }
    }
}
