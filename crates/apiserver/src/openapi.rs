//! `/openapi/v2` and `/openapi/v3`.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Descriptions;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use meta::{GroupVersion, Status};
use parking_lot::Mutex;
use registry::KindRow;
use schema::openapi::{self, Describe, Resource, Subresource, custom};
use serde_json::Value;
use sha2::Digest;
use wire::Body;

use crate::chain::Call;
use crate::openapi_proto;
use crate::respond::sized_response;
use crate::route::page_not_found;

/// A document with its hash.
type Document = (Bytes, String);

/// Documents of one generation of the registry, made when first asked for.
#[derive(Default)]
pub(crate) struct Cache(Mutex<(u64, BTreeMap<String, Document>)>);

fn hashed(value: &Value) -> Document {
    hashed_bytes(serde_json::to_vec(value).unwrap_or_default())
}

fn hashed_bytes(bytes: Vec<u8>) -> Document {
    let hash: String = sha2::Sha512::digest(&bytes).iter().map(|b| format!("{b:02X}")).collect();
    (bytes.into(), hash)
}

/// Answers a path below `/openapi/`.
pub(crate) fn answer(call: &Call, path: &str) -> Result<Response<Body>, Status> {
    let registry = &call.state.registry;
    let generation = registry.generation();
    let rows: Vec<Arc<KindRow>> = registry.all().iter().map(|r| r.row.clone()).collect();
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
            let Some(made) = make(&key, &rows) else { return Ok(page_not_found()) };
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
    Ok(response)
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

fn make(path: &str, rows: &[Arc<KindRow>]) -> Option<Document> {
    let texts = Descriptions::load();
    let describe = |name: &str, field: &str| texts.get(name, field);
    match path {
        "/openapi/v2" => {
            Some(hashed(&openapi::v2_document(&resources(rows, None, &describe), &describe, crate::VERSION)))
        }
        "/openapi/v2+protobuf" => {
            let document = openapi::v2_document(&resources(rows, None, &describe), &describe, crate::VERSION);
            Some(hashed_bytes(openapi_proto::encode(&document)))
        }
        "/openapi/v3" => {
            // The hash must change when the document does; what a document is made of are the rows of its version.
            let entries = group_versions(rows).into_iter().map(|(path, gv)| {
                let parts = resources(rows, Some(&gv), &openapi::undescribed);
                let hash: String =
                    sha2::Sha512::digest(format!("{parts:?}")).iter().map(|b| format!("{b:02X}")).collect();
                (path, hash)
            });
            Some(hashed(&openapi::v3_index(&entries.collect::<Vec<_>>())))
        }
        _ => {
            let wanted = path.strip_prefix("/openapi/v3/")?;
            let (_, gv) = group_versions(rows).into_iter().find(|(p, _)| p == wanted)?;
            Some(v3(rows, &gv, &describe))
        }
    }
}
