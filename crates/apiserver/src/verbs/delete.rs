//! delete and deletecollection.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use meta::{Object, Status, field};
use registry::DeleteOptions;
use serde_json::{Map, Value, json};
use wire::Body;

use super::list_options;
use crate::chain::Call;
use crate::decode;
use crate::negotiate::Media;
use crate::respond::{self, status_response};
use crate::route::Target;
use crate::words;

/// What deletes may leave behind; upstream shows the absent one, too.
const POLICIES: [&str; 4] = ["Foreground", "Background", "Orphan", "nil"];

/// `DeleteOptions` from body and query.
fn delete_options(call: &Call, body: &Bytes) -> Result<Value, Status> {
    let mut value = if body.is_empty() { json!({}) } else { body_options(call.headers(), body)? };
    let query = &call.query;
    if body.is_empty() {
        if let Some(seconds) = words::int_parameter(query, "gracePeriodSeconds")? {
            value["gracePeriodSeconds"] = seconds.into();
        }
        if !query.get("propagationPolicy").is_empty() {
            value["propagationPolicy"] = query.get("propagationPolicy").into();
        }
        if query.has("orphanDependents") {
            value["orphanDependents"] = query.flag("orphanDependents").into();
        }
    }
    check_options(&value)?;
    value["kind"] = "DeleteOptions".into();
    value["apiVersion"] = "meta.k8s.io/v1".into();
    Ok(value)
}

fn check_options(value: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let policy = value["propagationPolicy"].as_str();
    if let Some(policy) = policy.filter(|p| !POLICIES[..3].contains(p)) {
        errors.push(field::Error::not_supported(&field::Path::new("propagationPolicy"), policy, &POLICIES));
    }
    if value["dryRun"].as_array().is_some_and(|l| l.iter().any(|v| v != "All")) {
        let path = field::Path::new("dryRun");
        errors.push(field::Error::not_supported(&path, value["dryRun"].clone(), &["All"]));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&meta::GroupKind::new("meta.k8s.io", "DeleteOptions"), "", &errors))
}

fn body_options(headers: &HeaderMap, body: &Bytes) -> Result<Value, Status> {
    let bad = |e: &dyn std::fmt::Display| Status::bad_request(e.to_string());
    let t = schema::type_by_name("apimachinery/pkg/apis/meta/v1", "DeleteOptions")
        .ok_or_else(|| Status::internal("the table has no DeleteOptions"))?;
    let json = match decode::media(headers)? {
        Media::Json => body.clone(),
        Media::Yaml => schema::codec::yaml_to_json(body).map_err(|e| bad(&words::yaml_words(&e.to_string())))?.into(),
        Media::Protobuf => {
            // Clients name the kind in any group; the message is always the same.
            let cut = |e: schema::codec::Error| {
                let text = e.to_string();
                bad(&if text == "proto: unexpected EOF" { "unexpected EOF".to_owned() } else { text })
            };
            let envelope = schema::codec::open_envelope(body).map_err(cut)?;
            return schema::codec::message_to_value(t, envelope.raw).map(Value::Object).map_err(cut);
        }
    };
    let (value, _) =
        words::read_json(&json).map_err(|e| bad(&format!("couldn't get version/kind; json parse error: {e}")))?;
    let object = words::options_body(value, "DeleteOptions")?;
    let decoded = schema::codec::decode_value_as(t, object.body).map_err(|e| bad(&e))?;
    Ok(Value::from(decoded.object))
}

/// DELETE of one object.
pub(crate) async fn delete(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let negotiated = target.negotiate(call)?;
    let mut request = target.request(call, "DeleteOptions")?;
    let body = decode::read(call.take_body()).await?;
    request.options = delete_options(call, &body)?;
    request.cx.dry_run |= has_dry_run(&request.options);
    let options = DeleteOptions::from_value(&request.options)?;
    let deleted = target.resource.delete(&request, &call.info.name, &options).await?;
    let mut response = if deleted.gone && !target.row().strategy.return_deleted_object() {
        status_response(call.headers(), &Status::success(Some(deleted.details)))
    } else {
        let orphaning =
            matches!(options.propagation, Some(registry::Propagation::Foreground | registry::Propagation::Background));
        let accepted = !deleted.gone && orphaning && request.options.get("orphanDependents").is_some();
        let code = if accepted { StatusCode::ACCEPTED } else { StatusCode::OK };
        respond::raw_response(call.headers(), code, &target.form(call, &negotiated), &deleted.raw)?
    };
    respond::add_warnings(&mut response, request.warnings.take());
    Ok(response)
}

/// Whether the options say `dryRun: [All]`.
pub(crate) fn has_dry_run(options: &Value) -> bool {
    options.get("dryRun").and_then(Value::as_array).is_some_and(|l| l.iter().any(|v| v == "All"))
}

/// DELETE of a collection.
pub(crate) async fn delete_collection(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let negotiated = target.negotiate(call)?;
    let mut request = target.request(call, "DeleteOptions")?;
    let list = list_options(call, target)?;
    let body = decode::read(call.take_body()).await?;
    request.options = delete_options(call, &body)?;
    request.cx.dry_run |= has_dry_run(&request.options);
    let options = DeleteOptions::from_value(&request.options)?;
    let (deleted, revision) = target.resource.delete_collection(&request, &list, &options).await?;
    let form = target.form(call, &negotiated);
    let objects: Vec<Object> = deleted.iter().map(|raw| form.tree(raw)).collect::<Result<_, _>>()?;
    let mut list_meta = Map::new();
    list_meta.insert("resourceVersion".into(), revision.to_string().into());
    let shaped = respond::shape_list(&form, &objects, list_meta)?;
    let mut plain = negotiated.clone();
    if plain.media == Media::Protobuf && plain.itself() {
        // Lists have no envelope of their own in the table; clients read only the status code of a deletecollection.
        plain.media = Media::Json;
    }
    respond::tree_response(call.headers(), StatusCode::OK, &plain, &shaped)
}
