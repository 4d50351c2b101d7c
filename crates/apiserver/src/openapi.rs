//! `/openapi/v2` and `/openapi/v3`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use meta::Status;
use parking_lot::Mutex;
use registry::KindRow;
use serde_json::{Value, json};
use sha2::Digest;
use wire::Body;

use crate::chain::Call;
use crate::respond::sized_response;
use crate::route::page_not_found;

/// A document with its hash.
type Document = (Bytes, String);

/// Documents of one generation of the registry, made when first asked for.
#[derive(Default)]
pub(crate) struct Cache(Mutex<(u64, BTreeMap<String, Document>)>);

fn hashed(value: &Value) -> Document {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let hash: String = sha2::Sha512::digest(&bytes).iter().map(|b| format!("{b:02X}")).collect();
    (bytes.into(), hash)
}

/// Answers a path below `/openapi/`.
pub(crate) fn answer(call: &Call, path: &str) -> Result<Response<Body>, Status> {
    let registry = &call.state.registry;
    let generation = registry.generation();
    let rows: Vec<Arc<KindRow>> = registry.all().iter().map(|r| r.row.clone()).collect();
    let mut cache = call.state.openapi.0.lock();
    if cache.0 != generation {
        *cache = (generation, BTreeMap::new());
    }
    let document = match cache.1.get(path) {
        Some(document) => document.clone(),
        None => {
            let Some(made) = make(path, &rows) else { return Ok(page_not_found()) };
            cache.1.insert(path.to_owned(), made.clone());
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
        sized_response(call.headers(), StatusCode::OK, "application/json", bytes.to_vec())
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    Ok(response)
}

/// Group versions with their path below `/openapi/v3`: `api/v1`, `apis/apps/v1`.
fn group_versions(rows: &[Arc<KindRow>]) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for (group, versions) in crate::discovery::groups(rows) {
        for version in versions {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            all.push((path, group.clone(), version));
        }
    }
    all
}

fn make(path: &str, rows: &[Arc<KindRow>]) -> Option<Document> {
    match path {
        "/openapi/v2" => Some(hashed(&crate::openapi_doc::v2(rows, &group_versions(rows)))),
        "/openapi/v3" => {
            let mut paths = serde_json::Map::new();
            for (path, group, version) in group_versions(rows) {
                let (_, hash) = hashed(&crate::openapi_doc::v3(rows, &group, &version));
                let url = format!("/openapi/v3/{path}?hash={hash}");
                paths.insert(path, json!({ "serverRelativeURL": url }));
            }
            Some(hashed(&json!({ "paths": paths })))
        }
        _ => {
            let wanted = path.strip_prefix("/openapi/v3/")?;
            let (_, group, version) = group_versions(rows).into_iter().find(|(p, _, _)| p == wanted)?;
            Some(hashed(&crate::openapi_doc::v3(rows, &group, &version)))
        }
    }
}
