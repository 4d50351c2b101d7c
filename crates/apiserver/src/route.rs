//! From a request to what answers it.

use std::sync::Arc;

use http::{Response, StatusCode};
use meta::{GroupVersionKind, Status};
use registry::{Backing, Ctx, KindRow, Request, Resource, Sub, SubresourceRow, Verbs, Warnings};
use serde_json::json;
use wire::Body;

use crate::chain::Call;
use crate::negotiate::{self, Negotiated};
use crate::reqinfo::RequestInfo;
use crate::respond::{self, Form};
use crate::server::State;
use crate::{discovery, health, openapi, review, sub, verbs};

/// A resource request with the row it is about.
pub(crate) struct Target {
    pub resource: Arc<Resource>,
    pub gvk: GroupVersionKind,
    /// Namespace of the objects, empty for cluster-scoped kinds and lists over all namespaces.
    pub namespace: String,
}

impl Target {
    /// The row.
    pub fn row(&self) -> &KindRow {
        &self.resource.row
    }

    /// Negotiates the answer's form.
    pub fn negotiate(&self, call: &Call) -> Result<Negotiated, Status> {
        let protobuf = self.row().custom.is_none();
        if protobuf {
            negotiate::representable(call.headers(), matches!(call.info.verb, "list" | "watch"))?;
        }
        let mut negotiated = Negotiated::choose(call.headers(), true, protobuf)?;
        let included = call.query.get("includeObject");
        if negotiated.shape == negotiate::Shape::Table && !matches!(included, "" | "None" | "Metadata" | "Object") {
            return Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {included:?}: must be 'Metadata', 'Object', 'None', or empty"
            )));
        }
        negotiated.pretty |= call.query.flag("pretty");
        Ok(negotiated)
    }

    /// The form of an answer.
    pub fn form<'a>(&'a self, call: &'a Call, negotiated: &'a Negotiated) -> Form<'a> {
        Form { row: self.row(), gvk: self.gvk.clone(), negotiated, include_object: call.query.get("includeObject") }
    }

    /// The write request for strategy and admission. `options` is the kind of options, such as `CreateOptions`.
    pub fn request(&self, call: &Call, options: &str) -> Result<Request, Status> {
        let dry_run = dry_run(call, options)?;
        let manager = call.query.get("fieldManager");
        if manager.len() > 128 {
            let path = meta::field::Path::new("fieldManager");
            let error = meta::field::Error::too_long(&path, 128);
            return Err(Status::invalid(&meta::GroupKind::new("meta.k8s.io", options), "", &[error]));
        }
        if let Some((at, odd)) = manager.char_indices().find(|(_, c)| c.is_control()) {
            let path = meta::field::Path::new("fieldManager");
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(odd));
            let error = meta::field::Error::invalid(&path, manager, detail);
            return Err(Status::invalid(&meta::GroupKind::new("meta.k8s.io", options), "", &[error]));
        }
        let mut value = json!({"kind": options, "apiVersion": "meta.k8s.io/v1"});
        if dry_run {
            value["dryRun"] = json!(["All"]);
        }
        for (key, text) in [("fieldManager", manager), ("fieldValidation", call.query.get("fieldValidation"))] {
            if !text.is_empty() {
                value[key] = text.into();
            }
        }
        Ok(Request {
            cx: Ctx {
                user: call.user.clone(),
                namespace: self.namespace.clone(),
                gvr: self.row().gvr(&self.gvk.version),
                subresource: call.info.subresource.clone(),
                dry_run,
                registry: call.state.registry.clone(),
            },
            kind: self.gvk.clone(),
            options: value,
            warnings: Warnings::audited(call.trail.clone().map(|trail| trail as _)),
        })
    }
}

fn dry_run(call: &Call, options: &str) -> Result<bool, Status> {
    let given = call.query.all("dryRun");
    if given.iter().any(|v| *v != "All") {
        let path = meta::field::Path::new("dryRun");
        let error = meta::field::Error::not_supported(&path, json!(given), &["All"]);
        return Err(Status::invalid(&meta::GroupKind::new("meta.k8s.io", options), "", &[error]));
    }
    Ok(!given.is_empty())
}

/// Upstream's answer to a path that leads nowhere.
pub(crate) fn page_not_found() -> Response<Body> {
    respond::bytes_response(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// What a path within an API group's versions gets that leads to nothing: built-in groups have a router that says it.
///
/// # Errors
/// That 404.
pub(crate) fn nowhere(state: &State, group: &str) -> Result<Response<Body>, Status> {
    let built_in = state.registry.all().iter().any(|r| r.row.group == group && r.row.custom.is_none());
    if built_in { Err(Status::unknown_path()) } else { Ok(page_not_found()) }
}

/// What upstream's routes of built-in kinds say before any handler does.
fn check_route(info: &RequestInfo, row: &KindRow) -> Result<(), Status> {
    let path = info.path.trim_start_matches("/api/").trim_start_matches("/apis/");
    let place = path.split_once(&format!("/{}", row.plural)).map_or(path, |(before, _)| before);
    let odd = place.replace("/namespaces//", "/").contains("//") || info.path[1..].starts_with("api//");
    let proxy = info.subresource == "proxy";
    if !proxy && (odd || info.path.contains(&format!("/{}//", row.plural)) || info.rest.len() > 1) {
        return Err(Status::unknown_path());
    }
    if info.method_head && !proxy {
        return Err(Status::method_not_allowed());
    }
    let everywhere = row.namespaced && info.namespace.is_empty() && row.backing != Backing::Review;
    // A list's name is its field selector's, not the path's.
    if everywhere && !info.name.is_empty() && !matches!(info.verb, "list" | "watch") {
        return Err(Status::unknown_path());
    }
    if everywhere && info.name.is_empty() && !matches!(info.verb, "list" | "watch") {
        let listed = row.verbs.has(Verbs::LIST);
        return Err(if listed { Status::method_not_allowed() } else { Status::unknown_path() });
    }
    if everywhere && !row.verbs.has(Verbs::LIST) {
        return Err(Status::unknown_path());
    }
    Ok(())
}

/// Answers an authorized request.
pub(crate) async fn handle(call: Call) -> Result<Response<Body>, Status> {
    if !call.info.resource_request {
        return paths(call).await;
    }
    let info = &call.info;
    if let Some(remote) = call.state.aggregator.find(&info.group, &info.version) {
        return crate::aggregate::forward(call, &remote).await;
    }
    if info.path.starts_with("//") {
        return Ok(page_not_found());
    }
    let missing = || nowhere(&call.state, &info.group);
    let Some(resource) = call.state.registry.get(&info.group, &info.resource) else { return missing() };
    let row = &resource.row;
    if !row.versions.contains(&info.version) {
        return missing();
    }
    if row.custom.is_none() {
        check_route(info, row)?;
    }
    let own_namespace = row.plural == "namespaces" && row.group.is_empty();
    let namespace = if own_namespace { String::new() } else { info.namespace.clone() };
    if !row.namespaced && !namespace.is_empty() {
        return missing();
    }
    let needs_namespace = !matches!(info.verb, "list" | "watch") && row.backing != Backing::Review;
    if row.namespaced && namespace.is_empty() && needs_namespace && info.verb != "create" {
        return missing();
    }
    let target = Target { gvk: row.gvk(&info.version), resource: resource.clone(), namespace };
    if info.subresource.is_empty() {
        let warning = deprecation(row);
        if warning.is_some() {
            call.state.metrics.deprecated(info);
        }
        let mut response = main(call, target).await?;
        respond::add_warnings(&mut response, warning.map(str::to_owned).into_iter().collect());
        return Ok(response);
    }
    let Some(found) = row.subresource(&info.subresource).cloned() else { return missing() };
    subresource(call, target, found).await
}

/// What upstream warns of with every answer about a kind.
fn deprecation(row: &KindRow) -> Option<&'static str> {
    match (row.group.as_str(), row.plural.as_str()) {
        ("", "endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

async fn main(mut call: Call, target: Target) -> Result<Response<Body>, Status> {
    let row = target.row();
    let wanted = match call.info.verb {
        "create" => Verbs::CREATE,
        "delete" => Verbs::DELETE,
        "deletecollection" => Verbs::DELETE_COLLECTION,
        "get" => Verbs::GET,
        "list" => Verbs::LIST,
        "patch" => Verbs::PATCH,
        "update" => Verbs::UPDATE,
        "watch" => Verbs::WATCH,
        _ => Verbs::NONE,
    };
    let on_collection = call.info.name.is_empty();
    if wanted == Verbs::NONE
        || !row.verbs.has(wanted)
        || (wanted == Verbs::CREATE && !on_collection)
        || (matches!(wanted, Verbs::UPDATE | Verbs::PATCH) && on_collection)
    {
        return Err(Status::method_not_allowed());
    }
    match row.backing {
        Backing::Stored => {}
        Backing::Review => return review::create(&mut call, &target).await,
        Backing::ComponentStatus => return sub::component_status(&call, &target).await,
        Backing::Binding => return sub::binding_resource(&mut call, &target).await,
    }
    match call.info.verb {
        "get" => verbs::get(&call, &target).await,
        "list" => verbs::list(&call, &target).await,
        "watch" => verbs::watch(&call, &target).await,
        "create" => verbs::create(&mut call, &target).await,
        "update" => {
            let strategy = row.strategy.clone();
            verbs::update(&mut call, &target, &*strategy, true).await
        }
        "patch" => {
            let strategy = row.strategy.clone();
            verbs::patch(&mut call, &target, &*strategy, true).await
        }
        "delete" => verbs::delete(&mut call, &target).await,
        _ => verbs::delete_collection(&mut call, &target).await,
    }
}

async fn subresource(mut call: Call, target: Target, found: SubresourceRow) -> Result<Response<Body>, Status> {
    let verb = call.info.verb;
    match &found.handler {
        Sub::Object(strategy) => match verb {
            "get" if found.verbs.has(Verbs::GET) => verbs::get(&call, &target).await,
            "update" if found.verbs.has(Verbs::UPDATE) => verbs::update(&mut call, &target, &**strategy, false).await,
            "patch" if found.verbs.has(Verbs::PATCH) => verbs::patch(&mut call, &target, &**strategy, false).await,
            _ => Err(Status::method_not_allowed()),
        },
        Sub::Scale(paths) => sub::scale(&mut call, &target, paths).await,
        Sub::Binding if verb == "create" => sub::binding(&mut call, &target).await,
        Sub::Eviction if verb == "create" => sub::eviction(&mut call, &target).await,
        Sub::Token if verb == "create" => sub::token(&mut call, &target).await,
        Sub::Log if verb == "get" => sub::log(&mut call, &target).await,
        Sub::Exec | Sub::Attach | Sub::PortForward if matches!(verb, "get" | "create") => {
            sub::stream(&mut call, &target).await
        }
        Sub::Proxy => sub::proxy(&mut call, &target).await,
        _ => Err(Status::method_not_allowed()),
    }
}

async fn paths(call: Call) -> Result<Response<Body>, Status> {
    let path = call.info.path.clone();
    let trimmed = path.trim_end_matches('/');
    if path.len() > trimmed.len() && ["/healthz", "/livez", "/readyz", "/openapi/v2"].contains(&trimmed) {
        return Ok(page_not_found());
    }
    match trimmed {
        "/version" if call.head.method != http::Method::GET => Err(Status::method_not_allowed()),
        "/version" => Ok(discovery::version()),
        "/metrics" => Ok(crate::metrics::answer(&call.state).await),
        "/statusz" => crate::zpages::statusz(&call),
        "/flagz" => crate::zpages::flagz(&call),
        "/.well-known/openid-configuration" | "/openid/v1/jwks" => sub::openid(&call),
        "/healthz" | "/livez" | "/readyz" => Ok(health::answer(&call, trimmed, "").await),
        _ if ["/healthz/", "/livez/", "/readyz/"].iter().any(|p| trimmed.starts_with(p)) => {
            let (root, check) = trimmed[1..].split_once('/').unwrap_or((trimmed, ""));
            Ok(health::answer(&call, &format!("/{root}"), check).await)
        }
        _ if trimmed.starts_with("/apis/") && trimmed.split('/').count() == 4 => {
            let mut parts = trimmed.split('/').skip(2);
            let (group, version) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            match call.state.aggregator.find(group, version) {
                Some(remote) => crate::aggregate::forward(call, &remote).await,
                None => discovery::answer(&call, trimmed),
            }
        }
        _ if trimmed.starts_with("/debug/api_priority_and_fairness/") => crate::flow::answer(&call, trimmed),
        _ if trimmed.starts_with("/openapi/") => openapi::answer(call, trimmed).await,
        _ => discovery::answer(&call, trimmed),
    }
}
