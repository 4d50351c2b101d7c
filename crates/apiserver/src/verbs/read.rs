//! get and list.

use http::{Response, StatusCode};
use meta::selector::{FieldSelector, LabelSelector};
use meta::{GroupKind, Status};
use registry::{KindRow, ListOptions, VersionMatch};
use wire::Body;

use crate::chain::Call;
use crate::respond;
use crate::route::Target;
use crate::words;

/// GET of one object.
pub(crate) async fn get(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let negotiated = target.negotiate(call)?;
    let version = version(call.query.get("resourceVersion")).map_err(words::nameless)?;
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

/// A resource version of the query; else what is wrong with it.
fn version(text: &str) -> Result<Option<i64>, String> {
    ListOptions::parse_version(text)
        .map_err(|_| format!("resourceVersion: Invalid value: {text:?}: {}", words::number_words("ParseUint", text)))
}

/// Options of a list, watch or deletecollection from the query.
pub(crate) fn list_options(call: &Call, target: &Target) -> Result<ListOptions, Status> {
    let query = &call.query;
    let limit = words::int_parameter(query, "limit")?;
    words::int_parameter(query, "timeoutSeconds")?;
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
        resource_version: version(query.get("resourceVersion")).map_err(|why| match call.info.verb {
            "watch" => words::nameless(why),
            _ => Status::bad_request(format!("invalid resource version: {why}")),
        })?,
        version_match,
        limit: limit.and_then(|l| usize::try_from(l).ok()).unwrap_or(0),
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
        // Kinds that have fields of their own say it shorter.
        if !known && (row.custom.is_some() || !row.strategy.selectable_fields().is_empty()) {
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
