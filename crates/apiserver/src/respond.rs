//! Answers: objects, lists and statuses in the negotiated form.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use meta::{GroupVersionKind, Object, Status};
use registry::{Entry, KindRow, Listed, Raw, StoredMedia};
use schema::codec::{JsonListWriter, ListMeta};
use serde_json::{Map, Value};
use wire::Body;

use crate::negotiate::{Media, Negotiated, Shape};
use crate::table;

/// Answers above this size are compressed when the client takes it.
const GZIP_FROM: usize = 128 * 1024;
/// Lists whose stored bytes are more than this are sent while they are encoded.
const STREAM_FROM: usize = 128 * 1024;

/// Joined facts of an answer about one kind.
pub(crate) struct Form<'a> {
    pub row: &'a KindRow,
    /// The version that the request named.
    pub gvk: GroupVersionKind,
    pub negotiated: &'a Negotiated,
    /// `includeObject` of tables.
    pub include_object: &'a str,
}

impl Form<'_> {
    /// Whether stored bytes can be shown without a tree in between.
    pub fn direct(&self) -> bool {
        self.negotiated.itself() && self.row.stored == self.gvk && self.row.strategy.decorator().is_none()
    }

    /// An object's bytes in the shape asked for, when the stored ones give them without a tree in between: the object itself
    /// in its stored version, or its metadata, which are the same in every version.
    pub fn shaped_bytes(&self, raw: &Raw) -> Result<Option<Vec<u8>>, Status> {
        if self.row.media != StoredMedia::Protobuf || self.row.strategy.decorator().is_some() {
            return Ok(None);
        }
        let version = raw.revision.unsigned_abs();
        let metadata =
            self.negotiated.shape == Shape::Metadata && self.negotiated.shape_api_version() == "meta.k8s.io/v1";
        match self.negotiated.media {
            Media::Json if metadata => {
                let mut out = Vec::with_capacity(raw.value.len());
                schema::codec::partial_object_metadata_json(&raw.value, version, &mut out).map_err(Status::internal)?;
                Ok(Some(out))
            }
            Media::Protobuf if metadata => {
                schema::codec::partial_object_metadata(&raw.value, version).map(Some).map_err(Status::internal)
            }
            Media::Json if self.direct() => {
                let mut out = Vec::with_capacity(raw.value.len() * 3 + 64);
                schema::codec::protobuf_to_json(&raw.value, version, &mut out).map_err(Status::internal)?;
                Ok(Some(out))
            }
            Media::Protobuf if self.direct() => {
                schema::codec::set_resource_version(&raw.value, version).map(Some).map_err(Status::internal)
            }
            _ => Ok(None),
        }
    }

    /// Decodes to the request's version.
    pub fn tree(&self, raw: &Raw) -> Result<Object, Status> {
        let mut object = registry::decode(self.row, raw)?;
        if object.gvk() != self.gvk {
            self.row.convert_to(&mut object, &self.row.hub)?;
            self.row.convert_to(&mut object, &self.gvk)?;
        }
        if let Some(decorate) = self.row.strategy.decorator() {
            decorate(&mut object);
        }
        Ok(object)
    }
}

/// Encodes a tree.
pub(crate) fn encode_tree(object: &Object, media: Media) -> Result<Vec<u8>, Status> {
    match media {
        Media::Json => Ok(schema::codec::to_json(object)),
        Media::Yaml => Ok(schema::codec::to_yaml(&object.body).into_bytes()),
        Media::Protobuf => schema::codec::encode_protobuf(object).map_err(Status::internal),
    }
}

/// An answer of bytes.
pub(crate) fn bytes_response(code: StatusCode, content_type: &str, bytes: impl Into<Bytes>) -> Response<Body> {
    let bytes = bytes.into();
    let length = bytes.len();
    let mut response = Response::new(wire::full(bytes));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Whether the client takes compressed answers.
pub(crate) fn takes_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok());
    accepted.is_some_and(|v| v.split(',').any(|e| e.trim().split(';').next() == Some("gzip")))
}

/// The same, compressed when it is large and the client takes it.
pub(crate) fn sized_response(
    request: &HeaderMap,
    code: StatusCode,
    content_type: &str,
    bytes: Vec<u8>,
) -> Response<Body> {
    if bytes.len() < GZIP_FROM || !takes_gzip(request) {
        return bytes_response(code, content_type, bytes);
    }
    let mut response = bytes_response(code, content_type, wire::compress(&bytes));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// A tree as an answer.
pub(crate) fn tree_response(
    request: &HeaderMap,
    code: StatusCode,
    negotiated: &Negotiated,
    object: &Object,
) -> Result<Response<Body>, Status> {
    let mut bytes = encode_tree(object, negotiated.media)?;
    if negotiated.media == Media::Json {
        bytes.push(b'\n');
    }
    Ok(sized_response(request, code, negotiated.media.content_type(), bytes))
}

/// One stored object as an answer.
pub(crate) fn raw_response(
    request: &HeaderMap,
    code: StatusCode,
    form: &Form<'_>,
    raw: &Raw,
) -> Result<Response<Body>, Status> {
    if let Some(mut bytes) = form.shaped_bytes(raw)? {
        if form.negotiated.media == Media::Json {
            bytes.push(b'\n');
        }
        return Ok(sized_response(request, code, form.negotiated.media.content_type(), bytes));
    }
    let object = form.tree(raw)?;
    let shaped = if form.negotiated.itself() { object } else { shape_object(form, &object, true)? };
    tree_response(request, code, form.negotiated, &shaped)
}

/// An object in the negotiated shape.
pub(crate) fn shape_object(form: &Form<'_>, object: &Object, columns: bool) -> Result<Object, Status> {
    match form.negotiated.shape {
        Shape::Itself => Ok(object.clone()),
        Shape::Metadata => Ok(partial_metadata(object, &form.negotiated.shape_api_version())),
        Shape::MetadataList => {
            let group = if form.gvk.group.is_empty() { "core" } else { &form.gvk.group };
            let what = format!("*{}.{}", group.split('.').next().unwrap_or(""), form.row.kind);
            let message =
                format!("you requested PartialObjectMetadataList, but the requested object is not a list ({what})");
            Err(Status::failure(406, meta::reason::NOT_ACCEPTABLE, message))
        }
        Shape::Table => {
            let mut list_meta = Map::new();
            if !object.resource_version().is_empty() {
                list_meta.insert("resourceVersion".into(), object.resource_version().into());
            }
            let objects = std::slice::from_ref(object);
            Ok(table::table(form, objects, list_meta, columns))
        }
    }
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial_metadata(object: &Object, api_version: &str) -> Object {
    let mut partial = Object::default();
    partial.body.insert("kind".into(), "PartialObjectMetadata".into());
    partial.body.insert("apiVersion".into(), api_version.into());
    let metadata = object.metadata().cloned().unwrap_or_default();
    partial.body.insert("metadata".into(), Value::Object(metadata));
    partial
}

/// A list as an answer.
pub(crate) fn list_response(request: &HeaderMap, form: &Form<'_>, listed: &Listed) -> Result<Response<Body>, Status> {
    let meta = ListMeta {
        resource_version: listed.revision.unsigned_abs(),
        continue_token: listed.continue_token.clone(),
        remaining_item_count: listed.remaining,
    };
    let gv = form.gvk.api_version();
    let kind = &form.row.list_kind;
    let media = form.negotiated.media;
    let stored: usize = listed.entries.iter().map(|e| e.raw.value.len()).sum();
    if stored > STREAM_FROM && form.direct() && form.row.media == StoredMedia::Protobuf && media != Media::Yaml {
        return crate::stream_list::respond(request, media, &gv, kind, &meta, listed.entries.clone());
    }
    let bytes = match (form.direct(), form.row.media, media) {
        (true, StoredMedia::Protobuf, Media::Json) => json_list(&gv, kind, &meta, &listed.entries)?,
        (true, StoredMedia::Protobuf, Media::Protobuf) => {
            let items: Vec<(&[u8], u64)> =
                listed.entries.iter().map(|e| (&e.raw.value[..], e.raw.revision.unsigned_abs())).collect();
            schema::codec::protobuf_list(&gv, kind, &meta, &items).map_err(Status::internal)?
        }
        _ => {
            let objects: Vec<Object> = listed.entries.iter().map(|e| form.tree(&e.raw)).collect::<Result<_, _>>()?;
            let list = shape_list(form, &objects, meta.to_map())?;
            if media == Media::Protobuf && form.negotiated.itself() {
                protobuf_tree_list(form, &meta, &objects)?
            } else {
                encode_tree(&list, media)?
            }
        }
    };
    Ok(sized_response(request, StatusCode::OK, media.content_type(), bytes))
}

fn json_list(gv: &str, kind: &str, meta: &ListMeta, entries: &[Arc<Entry>]) -> Result<Vec<u8>, Status> {
    let size: usize = entries.iter().map(|e| e.raw.value.len() * 3 + 64).sum();
    let mut out = Vec::with_capacity(size + 256);
    let mut writer = JsonListWriter::begin(&mut out, gv, kind, meta);
    for entry in entries {
        writer.protobuf(&mut out, &entry.raw.value, entry.raw.revision.unsigned_abs()).map_err(Status::internal)?;
    }
    writer.end(&mut out);
    Ok(out)
}

fn protobuf_tree_list(form: &Form<'_>, meta: &ListMeta, objects: &[Object]) -> Result<Vec<u8>, Status> {
    let encoded: Vec<(Vec<u8>, u64)> = objects
        .iter()
        .map(|o| Ok((encode_tree(o, Media::Protobuf)?, o.resource_version().parse().unwrap_or(0))))
        .collect::<Result<_, Status>>()?;
    let items: Vec<(&[u8], u64)> = encoded.iter().map(|(bytes, version)| (bytes.as_slice(), *version)).collect();
    schema::codec::protobuf_list(&form.gvk.api_version(), &form.row.list_kind, meta, &items).map_err(Status::internal)
}

/// A list of trees in the negotiated shape.
pub(crate) fn shape_list(form: &Form<'_>, objects: &[Object], list_meta: Map<String, Value>) -> Result<Object, Status> {
    let mut list = Object::default();
    let version = form.negotiated.shape_api_version();
    match form.negotiated.shape {
        Shape::Table => return Ok(table::table(form, objects, list_meta, true)),
        Shape::Metadata => {
            let group = if form.gvk.group.is_empty() { "core" } else { &form.gvk.group };
            let what = format!("*{}.{}", group.split('.').next().unwrap_or(""), form.row.list_kind);
            let message = format!("you requested PartialObjectMetadata, but the requested object is a list ({what})");
            return Err(Status::failure(406, meta::reason::NOT_ACCEPTABLE, message));
        }
        Shape::MetadataList => {
            list.body.insert("kind".into(), "PartialObjectMetadataList".into());
            list.body.insert("apiVersion".into(), version.clone().into());
        }
        Shape::Itself => {
            list.body.insert("kind".into(), form.row.list_kind.clone().into());
            list.body.insert("apiVersion".into(), form.gvk.api_version().into());
        }
    }
    let items = objects.iter().map(|object| {
        if form.negotiated.itself() { Value::from(object.clone()) } else { partial_metadata(object, &version).into() }
    });
    let items: Vec<Value> = items.collect();
    list.body.insert("metadata".into(), Value::Object(list_meta));
    list.body.insert("items".into(), Value::Array(items));
    Ok(list)
}

/// A status as an answer: failures and the success of a delete.
pub(crate) fn status_response(request: &HeaderMap, status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media = Negotiated::choose(request, false, true).map_or(Media::Json, |n| n.media);
    let object = Object::from_value(status.to_value()).unwrap_or_default();
    let mut response = match encode_tree(&object, media) {
        Ok(mut bytes) => {
            if media == Media::Json {
                bytes.push(b'\n');
            }
            bytes_response(code, media.content_type(), bytes)
        }
        Err(_) => bytes_response(code, "application/json", schema::codec::to_json(&object)),
    };
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, retry.into());
    }
    response
}

/// Adds `Warning` headers.
pub(crate) fn add_warnings(response: &mut Response<Body>, warnings: Vec<String>) {
    for warning in warnings {
        let mut text = String::with_capacity(warning.len() + 8);
        for c in warning.chars() {
            match c {
                '"' | '\\' => {
                    text.push('\\');
                    text.push(c);
                }
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
