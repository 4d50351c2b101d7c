//! Discovery documents, legacy and aggregated, and `/version`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use meta::{GroupVersionKind, Status};
use parking_lot::Mutex;
use registry::{KindRow, Registry};
use serde_json::{Value, json};
use sha2::Digest;
use wire::Body;

use crate::aggregate::Aggregator;
use crate::chain::Call;
use crate::respond::{bytes_response, sized_response};
use crate::route::page_not_found;

/// The release whose API this is.
pub const VERSION: &str = "v1.36.0";

/// Built-in groups in upstream's order of priority; others follow by name.
const ORDER: [&str; 20] = [
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];

/// Go's name of this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Documents of one generation of the registry.
#[derive(Default)]
struct Documents {
    /// By path, such as `/apis/apps/v1`.
    legacy: BTreeMap<String, Bytes>,
    /// By root (`/api`, `/apis`) and version (`v2`, `v2beta1`): body and ETag.
    aggregated: BTreeMap<(&'static str, &'static str), (Bytes, String)>,
}

/// Documents, rebuilt when rows come or go.
#[derive(Default)]
pub(crate) struct Discovery(Mutex<Option<(u64, Arc<Documents>)>>);

impl Discovery {
    fn documents(&self, registry: &Registry, aggregator: &Aggregator) -> Arc<Documents> {
        // Both only grow, so that their sum names one state of both.
        let generation = registry.generation() + aggregator.generation();
        let mut slot = self.0.lock();
        match &*slot {
            Some((made, documents)) if *made == generation => documents.clone(),
            _ => {
                let fresh = Arc::new(build(registry, &aggregator.served()));
                *slot = Some((generation, fresh.clone()));
                fresh
            }
        }
    }
}

/// `/version`.
pub(crate) fn version() -> Response<Body> {
    let info = json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": VERSION, "gitCommit": "0000000000000000000000000000000000000000", "gitTreeState": "clean",
        "buildDate": "2026-04-22T00:00:00Z", "goVersion": "go1.26.0", "compiler": "gc",
        "platform": format!("linux/{}", architecture()),
    });
    let text = serde_json::to_vec_pretty(&info).unwrap_or_default();
    bytes_response(StatusCode::OK, "application/json", text)
}

/// Answers `/`, `/api...` and `/apis...`.
pub(crate) fn answer(call: &Call, path: &str) -> Result<Response<Body>, Status> {
    let documents = call.state.discovery.documents(&call.state.registry, &call.state.aggregator);
    if let "/api" | "/apis" = path
        && let Some(version) = aggregated_version(call.headers())
        && let Some((body, etag)) = documents.aggregated.get(&(if path == "/api" { "/api" } else { "/apis" }, version))
    {
        return Ok(aggregated(call.headers(), version, body, etag));
    }
    let key = if path.is_empty() { "/" } else { path };
    match documents.legacy.get(key) {
        Some(_) if path.split('/').count() > 3 && call.head.method != http::Method::GET => {
            Err(Status::method_not_allowed())
        }
        Some(body) => {
            if path.split('/').count() > 3 {
                crate::negotiate::representable(call.headers(), false)?;
            }
            legacy(call, body)
        }
        None => {
            let group = match path.split('/').collect::<Vec<_>>().as_slice() {
                ["", "api", _, ..] => Some(""),
                ["", "apis", group, _, ..] => Some(*group),
                _ => None,
            };
            group.map_or_else(|| Ok(page_not_found()), |group| crate::route::nowhere(&call.state, group))
        }
    }
}

fn legacy(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let negotiated = crate::negotiate::Negotiated::choose(call.headers(), false, true)?;
    if negotiated.media != crate::negotiate::Media::Json
        && let Ok(tree) = serde_json::from_slice::<Value>(body)
        && let Some(object) = meta::Object::from_value(tree)
        && let Ok(bytes) = crate::respond::encode_tree(&object, negotiated.media)
    {
        return Ok(sized_response(call.headers(), StatusCode::OK, negotiated.media.content_type(), bytes));
    }
    Ok(sized_response(call.headers(), StatusCode::OK, "application/json", body.to_vec()))
}

/// The version of the aggregated form that the client would take first.
fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    for clause in accept.split(',') {
        let parts: Vec<&str> = clause.split(';').map(str::trim).collect();
        let json = matches!(parts.first(), Some(&"application/json"));
        if json && parts.contains(&"g=apidiscovery.k8s.io") && parts.contains(&"as=APIGroupDiscoveryList") {
            if parts.contains(&"v=v2") {
                return Some("v2");
            }
            if parts.contains(&"v=v2beta1") {
                return Some("v2beta1");
            }
        } else if json && parts.len() == 1 {
            return None;
        }
    }
    None
}

fn aggregated(headers: &HeaderMap, version: &str, body: &Bytes, etag: &str) -> Response<Body> {
    let quoted = format!("\"{etag}\"");
    let same = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()) == Some(quoted.as_str());
    let content_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let mut response = if same {
        let mut response = Response::new(wire::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        sized_response(headers, StatusCode::OK, &content_type, body.to_vec())
    };
    if let Ok(value) = HeaderValue::from_str(&quoted) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// Sorts versions as upstream: GA before beta before alpha, higher numbers first.
pub(crate) fn version_rank(version: &str) -> (u8, i64, i64) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Ok(major) = rest[..digits].parse::<i64>() else { return (0, 0, 0) };
    let stage = &rest[digits..];
    match stage {
        "" => (3, major, 0),
        _ if stage.starts_with("beta") => (2, major, stage[4..].parse().unwrap_or(0)),
        _ if stage.starts_with("alpha") => (1, major, stage[5..].parse().unwrap_or(0)),
        _ => (0, 0, 0),
    }
}

/// Groups with their versions, best first, in upstream's order of groups.
pub(crate) fn groups(rows: &[Arc<KindRow>]) -> Vec<(String, Vec<String>)> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        let versions = groups.entry(row.group.clone()).or_default();
        for version in &row.versions {
            if !versions.contains(version) {
                versions.push(version.clone());
            }
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(name, _)| (ORDER.iter().position(|g| g == name).unwrap_or(usize::MAX), name.clone()));
    for (_, versions) in &mut groups {
        versions.sort_by_key(|v| std::cmp::Reverse(version_rank(v)));
    }
    groups
}

fn build(registry: &Registry, remote: &[(String, String, Value)]) -> Documents {
    let rows: Vec<Arc<KindRow>> = registry.all().iter().map(|r| r.row.clone()).collect();
    let mut groups = groups(&rows);
    for (group, version, _) in remote {
        match groups.iter_mut().find(|(g, _)| g == group) {
            Some((_, versions)) => versions.push(version.clone()),
            None => groups.push((group.clone(), vec![version.clone()])),
        }
    }
    let mut documents = Documents::default();
    let put = |documents: &mut Documents, path: String, value: &Value| {
        let mut bytes = serde_json::to_vec(value).unwrap_or_default();
        bytes.push(b'\n');
        documents.legacy.insert(path, bytes.into());
    };
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned(), "/apis/".to_owned()];
    let mut list = Vec::new();
    for (group, versions) in &groups {
        for version in versions {
            let gv = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
            let path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{gv}") };
            let resources = resources(&rows, group, version);
            let document =
                json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": resources});
            put(&mut documents, path.clone(), &document);
            paths.push(path);
        }
        if group.is_empty() {
            continue;
        }
        let shown: Vec<Value> =
            versions.iter().map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v})).collect();
        let entry = json!({"name": group, "versions": shown, "preferredVersion": shown[0]});
        let mut single = entry.clone();
        single["kind"] = "APIGroup".into();
        single["apiVersion"] = "v1".into();
        put(&mut documents, format!("/apis/{group}"), &single);
        paths.push(format!("/apis/{group}"));
        list.push(entry);
    }
    put(&mut documents, "/apis".into(), &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}));
    let versions = json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    });
    put(&mut documents, "/api".into(), &versions);
    let more = ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];
    paths.extend(more.iter().map(|p| (*p).to_owned()));
    paths.sort();
    paths.dedup();
    put(&mut documents, "/".into(), &json!({ "paths": paths }));
    for version in ["v2", "v2beta1"] {
        for (root, core) in [("/api", true), ("/apis", false)] {
            let items: Vec<Value> = groups
                .iter()
                .filter(|(group, _)| group.is_empty() == core)
                .map(|(group, versions)| group_discovery(&rows, remote, group, versions))
                .collect();
            let document = json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
                "metadata": {}, "items": items,
            });
            let bytes = serde_json::to_vec(&document).unwrap_or_default();
            let etag: String = sha2::Sha512::digest(&bytes).iter().map(|b| format!("{b:02X}")).collect();
            documents.aggregated.insert((root, version), (bytes.into(), etag));
        }
    }
    documents
}

fn served<'a>(rows: &'a [Arc<KindRow>], group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<KindRow>> {
    rows.iter().filter(move |r| r.group == group && r.versions.iter().any(|v| v == version))
}

fn resources(rows: &[Arc<KindRow>], group: &str, version: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for row in served(rows, group, version) {
        let mut entry = json!({
            "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced,
            "kind": row.kind, "verbs": row.verbs.names(),
        });
        if !row.short_names.is_empty() {
            entry["shortNames"] = json!(row.short_names);
        }
        if !row.categories.is_empty() {
            entry["categories"] = json!(row.categories);
        }
        all.push(entry);
        for sub in &row.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", row.plural, sub.name), "singularName": "", "namespaced": row.namespaced,
                "kind": row.kind, "verbs": sub.verbs.names(),
            });
            if let Some(kind) = &sub.kind {
                entry["kind"] = kind.kind.as_str().into();
                if kind.group != group || kind.version != version {
                    entry["group"] = kind.group.as_str().into();
                    entry["version"] = kind.version.as_str().into();
                }
            }
            all.push(entry);
        }
    }
    all.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    all
}

/// A remote server's resource list in the aggregated form.
fn remote_discovery(group: &str, version: &str, list: &Value) -> Vec<Value> {
    let all: Vec<&Value> = list.get("resources").and_then(Value::as_array).into_iter().flatten().collect();
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let kind = |v: &Value| json!({"group": group, "version": version, "kind": text(v, "kind")});
    let main = all.iter().filter(|r| !text(r, "name").contains('/'));
    main.map(|resource| {
        let name = text(resource, "name");
        let namespaced = resource.get("namespaced").and_then(Value::as_bool).unwrap_or(false);
        let subs: Vec<Value> = all
            .iter()
            .filter_map(|sub| {
                let full = text(sub, "name");
                let own = full.strip_prefix(&format!("{name}/"))?;
                Some(json!({"subresource": own, "responseKind": kind(sub), "verbs": sub["verbs"]}))
            })
            .collect();
        let mut entry = json!({
            "resource": name, "responseKind": kind(resource),
            "scope": if namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": text(resource, "singularName"), "verbs": resource["verbs"],
        });
        for key in ["shortNames", "categories"] {
            if let Some(value) = resource.get(key) {
                entry[key] = value.clone();
            }
        }
        if !subs.is_empty() {
            entry["subresources"] = subs.into();
        }
        entry
    })
    .collect()
}

fn group_discovery(
    rows: &[Arc<KindRow>],
    remote: &[(String, String, Value)],
    group: &str,
    versions: &[String],
) -> Value {
    let kind_of = |k: &GroupVersionKind| json!({"group": k.group, "version": k.version, "kind": k.kind});
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> = served(rows, group, version)
                .map(|row| {
                    let mut entry = json!({
                        "resource": row.plural,
                        "responseKind": kind_of(&row.gvk(version)),
                        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
                        "singularResource": row.singular,
                        "verbs": row.verbs.names(),
                    });
                    if !row.short_names.is_empty() {
                        entry["shortNames"] = json!(row.short_names);
                    }
                    if !row.categories.is_empty() {
                        entry["categories"] = json!(row.categories);
                    }
                    let subs: Vec<Value> = row
                        .subresources
                        .iter()
                        .map(|sub| {
                            let kind = sub.kind.clone().unwrap_or_else(|| row.gvk(version));
                            json!({
                                "subresource": sub.name, "responseKind": kind_of(&kind), "verbs": sub.verbs.names(),
                            })
                        })
                        .collect();
                    if !subs.is_empty() {
                        entry["subresources"] = subs.into();
                    }
                    entry
                })
                .collect();
            let resources = match remote.iter().find(|(g, v, _)| g == group && v == version) {
                Some((_, _, list)) => remote_discovery(group, version, list),
                None => resources,
            };
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let mut metadata = json!({"creationTimestamp": null});
    if !group.is_empty() {
        metadata["name"] = group.into();
    }
    json!({"metadata": metadata, "versions": versions})
}
