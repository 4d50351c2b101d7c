//! get and list.

use http::{Response, StatusCode};
use meta::selector::{FieldSelector, LabelSelector};
use meta::{GroupKind, Status};
use registry::{KindRow, ListOptions, VersionMatch};
use wire::Body;

use crate::chain::Call;
use crate::respond;
use crate::route::Target;

/// GET of one object.
pub(crate) async fn get(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let negotiated = target.negotiate(call)?;
    let version = ListOptions::parse_version(call.query.get("resourceVersion"))?;
    let raw = target.resource.get(&target.namespace, &call.info.name, version).await?;
    respond::raw_response(call.headers(), StatusCode::OK, &target.form(call, &negotiated), &raw)
}

/// GET of a collection.
pub(crate) async fn list(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let negotiated = target.negotiate(call)?;
    let options = list_options(call, target)?;
    let errors = registry::validate_list(&options, call.query.get("resourceVersionMatch"));
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::new("meta.k8s.io", "ListOptions"), "", &errors));
    }
    let listed = target.resource.list(&options).await?;
    respond::list_response(call.headers(), &target.form(call, &negotiated), &listed)
}

/// Options of a list, watch or deletecollection from the query.
pub(crate) fn list_options(call: &Call, target: &Target) -> Result<ListOptions, Status> {
    let query = &call.query;
    let labels = LabelSelector::parse(query.get("labelSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
    let mut fields =
        FieldSelector::parse(query.get("fieldSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
    if !call.info.name.is_empty() && query.get("fieldSelector").is_empty() {
        // The old way to watch one object: /watch/.../name.
        fields = FieldSelector::equal("metadata.name", &call.info.name);
    }
    check_fields(target.row(), &fields)?;
    let version_match = match query.get("resourceVersionMatch") {
        "Exact" => VersionMatch::Exact,
        "NotOlderThan" => VersionMatch::NotOlderThan,
        _ => VersionMatch::Unset,
    };
    let metadata = |field: &str| field.starts_with("metadata.");
    let several = target.row().custom.is_some() && target.row().versions.len() > 1;
    let fields_at = (several && !fields.requirements.iter().all(|r| metadata(&r.field))).then(|| target.gvk.clone());
    Ok(ListOptions {
        namespace: target.namespace.clone(),
        labels,
        fields,
        fields_at,
        resource_version: ListOptions::parse_version(query.get("resourceVersion"))?,
        version_match,
        limit: query.int("limit").and_then(|l| usize::try_from(l).ok()).unwrap_or(0),
        continue_token: query.get("continue").to_owned(),
        send_initial_events: query.has("sendInitialEvents").then(|| query.flag("sendInitialEvents")),
        bookmarks: query.flag("allowWatchBookmarks"),
    })
}

fn check_fields(row: &KindRow, fields: &FieldSelector) -> Result<(), Status> {
    for requirement in &fields.requirements {
        let field = requirement.field.as_str();
        let known = field == "metadata.name"
            || (field == "metadata.namespace" && row.namespaced)
            || row.strategy.selectable_fields().iter().any(|f| f.name == field);
        if !known && row.custom.is_some() {
            return Err(Status::bad_request(format!("field label not supported: {field}")));
        }
        if !known {
            return Err(Status::bad_request(format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )));
        }
    }
    Ok(())
}
