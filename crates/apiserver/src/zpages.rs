//! `/statusz` and `/flagz`: what runs and how it was started, as text or in upstream's structured form.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use meta::{Object, Status};
use serde_json::{Value, json};
use wire::Body;

use crate::chain::Call;
use crate::respond::bytes_response;

const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
/// What `/statusz` lists.
const PATHS: [&str; 7] = ["/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"];

/// The form asked for.
enum Form {
    Text,
    /// Media type and version of the group.
    Structured(&'static str, &'static str),
}

fn form(headers: &HeaderMap, kind: &str) -> Result<Form, Status> {
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let accept = accept.join(",");
    if accept.trim().is_empty() {
        return Ok(Form::Text);
    }
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media = match parts.next().unwrap_or("") {
            "text/plain" | "*/*" | "text/*" => return Ok(Form::Text),
            "application/json" => "application/json",
            "application/yaml" => "application/yaml",
            _ => continue,
        };
        let parameters: Vec<&str> = parts.collect();
        if !parameters.contains(&"g=config.k8s.io") || !parameters.contains(&format!("as={kind}").as_str()) {
            continue;
        }
        for version in ["v1beta1", "v1alpha1"] {
            if parameters.contains(&format!("v={version}").as_str()) {
                return Ok(Form::Structured(media, version));
            }
        }
    }
    Err(Status::not_acceptable(&["application/json", "application/yaml", "text/plain"]))
}

fn structured(media: &'static str, version: &str, kind: &str, mut value: Value) -> Response<Body> {
    value["kind"] = kind.into();
    value["apiVersion"] = format!("config.k8s.io/{version}").into();
    value["metadata"] = json!({"name": "apiserver"});
    let object = Object::from_value(value).unwrap_or_default();
    let bytes = match media {
        "application/yaml" => schema::codec::to_yaml(&object.body).into_bytes(),
        _ => schema::codec::to_json(&object),
    };
    let mut response = bytes_response(StatusCode::OK, &format!("{media};g=config.k8s.io;v={version};as={kind}"), bytes);
    if version == "v1alpha1" {
        let place = kind.to_lowercase();
        let text = format!("299 - \"This version of the {place} endpoint is deprecated. Please use a newer version.\"");
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

fn text(name: &str, body: &str) -> Response<Body> {
    bytes_response(StatusCode::OK, "text/plain; charset=utf-8", format!("\napiserver {name}\n{WARNING}\n{body}"))
}

/// GET of `/statusz`.
///
/// # Errors
/// 406 for a form that there is not.
pub(crate) fn statusz(call: &Call) -> Result<Response<Body>, Status> {
    let version = crate::VERSION.trim_start_matches('v');
    let emulated = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    let started = call.state.started;
    let up = call.state.started_at.elapsed().as_secs();
    match form(call.headers(), "Statusz")? {
        Form::Text => {
            let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
            let body = format!(
                "\nStarted: {}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nGo version: none\nBinary version: {version}\nEmulation version: {emulated}\nPaths: {}\n",
                meta::time::format_seconds(started),
                PATHS.join(" ")
            );
            Ok(text("statusz", &body))
        }
        Form::Structured(media, group_version) => {
            let value = json!({
                "startTime": meta::time::format_seconds(started), "uptimeSeconds": up, "goVersion": "none",
                "binaryVersion": version, "emulationVersion": emulated, "paths": PATHS,
            });
            Ok(structured(media, group_version, "Statusz", value))
        }
    }
}

/// GET of `/flagz`.
///
/// # Errors
/// 406 for a form that there is not.
pub(crate) fn flagz(call: &Call) -> Result<Response<Body>, Status> {
    let flags = &call.state.config.shown_flags;
    match form(call.headers(), "Flagz")? {
        Form::Text => {
            let body: String = flags.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
            Ok(text("flagz", &body))
        }
        Form::Structured(media, version) => Ok(structured(media, version, "Flagz", json!({ "flags": flags }))),
    }
}
