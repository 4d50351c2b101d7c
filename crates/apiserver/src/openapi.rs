//! `/openapi/v2` and `/openapi/v3`.

pub(crate) mod merge;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Descriptions;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use meta::{GroupVersion, Status};
use parking_lot::Mutex;
use registry::KindRow;
use schema::openapi::{self, Describe, Resource, Subresource, custom};
use serde_json::{Value, json};
use sha2::Digest;
use wire::Body;

use crate::aggregate::Documents;
use crate::chain::Call;
use crate::openapi_proto;
use crate::respond::sized_response;
use crate::route::page_not_found;

/// A document with its hash.
type Document = (Bytes, String);

/// Documents of one generation of the registry and of the servers behind APIServices, made when first asked for.
#[derive(Default)]
pub(crate) struct Cache(Mutex<(Generation, BTreeMap<String, Document>)>);

type Generation = (u64, u64);

/// What documents are made of: this server's own rows, and the documents of other servers by group and version.
struct Source {
    rows: Vec<Arc<KindRow>>,
    others: Vec<(String, String, Documents)>,
}

fn hashed(value: &Value) -> Document {
    hashed_bytes(serde_json::to_vec(value).unwrap_or_default())
}

fn hashed_bytes(bytes: Vec<u8>) -> Document {
    let hash: String = sha2::Sha512::digest(&bytes).iter().map(|b| format!("{b:02X}")).collect();
    (bytes.into(), hash)
}

/// Answers a path below `/openapi/`.
pub(crate) async fn answer(call: Call, path: &str) -> Result<Response<Body>, Status> {
    if let Some(response) = own(&call, path) {
        return Ok(response);
    }
    let wanted = path.strip_prefix("/openapi/v3/").unwrap_or("");
    match call.state.aggregator.documented(wanted) {
        Some(other) => crate::aggregate::forward(call, &other).await,
        None => Ok(page_not_found()),
    }
}

/// The answer to what this server itself has.
fn own(call: &Call, path: &str) -> Option<Response<Body>> {
    let registry = &call.state.registry;
    let generation = (registry.generation(), call.state.aggregator.documents_generation());
    let source = || Source {
        rows: registry.all().iter().map(|r| r.row.clone()).collect(),
        others: call.state.aggregator.documents(),
    };
    let accept = call.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let protobuf = path == "/openapi/v2" && accept.contains(openapi_proto::ASKED);
    let key = if protobuf { format!("{path}+protobuf") } else { path.to_owned() };
    let mut cache = call.state.openapi.0.lock();
    if cache.0 != generation {
        *cache = (generation, BTreeMap::new());
    }
    let document = match cache.1.get(&key) {
        Some(document) => document.clone(),
        None => {
            let made = make(&key, &source())?;
            cache.1.insert(key, made.clone());
            made
        }
    };
    drop(cache);
    let (bytes, hash) = document;
    let etag = format!("\"{hash}\"");
    let same = call.headers().get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()) == Some(etag.as_str());
    let mut response = if same {
        let mut response = Response::new(wire::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let content_type = if protobuf { openapi_proto::ANSWERED } else { "application/json" };
        sized_response(call.headers(), StatusCode::OK, content_type, bytes.to_vec())
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    Some(response)
}

/// Resources of a version (all when `None`), as the documents need them.
fn resources(rows: &[Arc<KindRow>], of: Option<&GroupVersion>, describe: Describe<'_>) -> Vec<Resource> {
    let mut all = Vec::new();
    for row in rows {
        for version in &row.versions {
            if of.is_some_and(|gv| gv.group != row.group || gv.version != *version) {
                continue;
            }
            let gvk = row.gvk(version);
            let names = |verbs: registry::Verbs| verbs.names().into_iter().map(str::to_owned).collect();
            let subresources = row.subresources.iter().map(|sub| Subresource {
                name: sub.name.clone(),
                kind: sub.kind.clone().unwrap_or_else(|| gvk.clone()),
                verbs: names(sub.verbs),
            });
            let custom = row.custom.as_ref().map(|codec| {
                custom::definitions(&gvk, &row.list_kind, &row.plural, codec.schema(version).as_deref(), describe)
            });
            all.push(Resource {
                group: row.group.clone(),
                version: version.clone(),
                plural: row.plural.clone(),
                kind: row.kind.clone(),
                namespaced: row.namespaced,
                verbs: names(row.verbs),
                subresources: subresources.collect(),
                custom,
            });
        }
    }
    all
}

/// Group versions with their path below `/openapi/v3`: `api/v1`, `apis/apps/v1`.
fn group_versions(rows: &[Arc<KindRow>]) -> Vec<(String, GroupVersion)> {
    let mut all = Vec::new();
    for (group, versions) in crate::discovery::groups(rows) {
        for version in versions {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            all.push((path, GroupVersion::new(group.clone(), version)));
        }
    }
    all
}

fn v3(rows: &[Arc<KindRow>], gv: &GroupVersion, describe: Describe<'_>) -> Document {
    hashed(&openapi::v3_document(gv, &resources(rows, Some(gv), describe), describe, crate::VERSION))
}

/// The index of `/openapi/v3`. What this server has itself is never another's.
fn v3_index(source: &Source) -> Value {
    // The hash must change when the document does; what a document is made of are the rows of its version.
    let entries = group_versions(&source.rows).into_iter().map(|(path, gv)| {
        let parts = resources(&source.rows, Some(&gv), &openapi::undescribed);
        let hash: String = sha2::Sha512::digest(format!("{parts:?}")).iter().map(|b| format!("{b:02X}")).collect();
        (path, hash)
    });
    let mut index = openapi::v3_index(&entries.collect::<Vec<_>>());
    let Some(paths) = index["paths"].as_object_mut() else { return index };
    // First each server's own group version, then what else servers have: a server speaks for its own first.
    for own in [true, false] {
        for (group, version, documents) in &source.others {
            for (path, url) in documents.index.iter() {
                if (*path == format!("apis/{group}/{version}")) == own && !paths.contains_key(path) {
                    paths.insert(path.clone(), json!({"serverRelativeURL": url}));
                }
            }
        }
    }
    index
}

fn v2(source: &Source, describe: Describe<'_>) -> Value {
    let mut document = openapi::v2_document(&resources(&source.rows, None, describe), describe, crate::VERSION);
    for (_, _, documents) in &source.others {
        if let Some(other) = &documents.v2 {
            merge::merge(&mut document, Value::clone(other));
        }
    }
    document
}

fn make(path: &str, source: &Source) -> Option<Document> {
    let texts = Descriptions::load();
    let describe = |name: &str, field: &str| texts.get(name, field);
    match path {
        "/openapi/v2" => Some(hashed(&v2(source, &describe))),
        "/openapi/v2+protobuf" => Some(hashed_bytes(openapi_proto::encode(&v2(source, &describe)))),
        "/openapi/v3" => Some(hashed(&v3_index(source))),
        _ => {
            let wanted = path.strip_prefix("/openapi/v3/")?;
            let (_, gv) = group_versions(&source.rows).into_iter().find(|(p, _)| p == wanted)?;
            Some(v3(&source.rows, &gv, &describe))
        }
    }
}
