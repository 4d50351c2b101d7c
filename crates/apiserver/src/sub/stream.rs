//! pods/log, exec, attach, portforward: passed on to the kubelet.

use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use meta::{Object, Status};
use registry::Operation;
use serde_json::{Value, json};
use wire::Body;

use super::tunnel;
use crate::chain::Call;
use crate::kubelet::{node_of, pass_on, strip_hop_headers};
use crate::respond::bytes_response;
use crate::route::Target;

async fn find_pod(call: &Call, target: &Target) -> Result<Object, Status> {
    target.resource.get_object(&target.namespace, &call.info.name).await
}

/// The container asked for, or the only one.
fn container(pod: &Object, asked: &str) -> Result<String, Status> {
    let names = |field: &str| -> Vec<String> {
        let list = pod.get(&["spec", field]).and_then(Value::as_array);
        list.map(|l| l.iter().filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()).unwrap_or_default()
    };
    let (main, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if !asked.is_empty() {
        let known = main.iter().chain(&init).chain(&ephemeral).any(|n| n == asked);
        return if known {
            Ok(asked.to_owned())
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {}", pod.name())))
        };
    }
    match (main.as_slice(), init.is_empty()) {
        ([only], _) => Ok(only.clone()),
        ([], _) => Err(Status::bad_request(format!("no containers in pod {}", pod.name()))),
        (many, true) => Err(Status::bad_request(format!(
            "a container name must be specified for pod {}, choose one of: [{}]",
            pod.name(),
            many.join(" ")
        ))),
        (many, false) => Err(Status::bad_request(format!(
            "a container name must be specified for pod {}, choose one of: [{}] or one of the init containers: [{}]",
            pod.name(),
            many.join(" "),
            init.join(" ")
        ))),
    }
}

/// Query parameters that are passed on, encoded anew.
fn pass_query(call: &Call, names: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    for (from, to) in names {
        for value in call.query.all(from) {
            // Booleans are passed in the short form that every kubelet reads.
            let value = match (*from, value.as_str()) {
                ("command" | "container", text) => text,
                (_, "true") => "true",
                (_, text) => text,
            };
            out.push(format!("{to}={}", escape(value)));
        }
    }
    out.join("&")
}

pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// GET of a log.
pub(crate) async fn log(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let pod = find_pod(call, target).await?;
    check_log_options(call, &pod)?;
    let container = container(&pod, call.query.get("container"))?;
    let Some(node) = node_of(&pod) else {
        return Ok(bytes_response(StatusCode::OK, "text/plain", ""));
    };
    let mut backend = call.state.kubelets.of_node(&call.state, node).await?;
    if call.query.flag("insecureSkipTLSVerifyBackend") {
        backend.tls = backend.tls.map(|_| crate::kubelet::Peer::Pod);
    }
    let names = ["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"];
    let query = pass_query(call, &names.map(|n| (n, n)));
    let path = format!("/containerLogs/{}/{}/{container}?{query}", target.namespace, pod.name());
    let request = Request::builder().method(Method::GET).uri(path).body(wire::empty()).map_err(Status::internal)?;
    let answer = call.state.kubelets.send(&backend, request).await?;
    if answer.status() != StatusCode::OK {
        return Err(backend_failure(answer).await);
    }
    let mut response = pass_on(answer);
    if upgrade_of(call.headers()).is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
        return super::websocket::stream(call, response.into_body());
    }
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn check_log_options(call: &Call, pod: &Object) -> Result<(), Status> {
    let mut errors = Vec::new();
    for (name, low) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        if !call.query.has(name) {
            continue;
        }
        let value = call.query.int(name);
        if value.is_none_or(|v| v < low) {
            let detail = if low == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            let path = meta::field::Path::new(name);
            errors.push(meta::field::Error::invalid(&path, value.unwrap_or(0), detail));
        }
    }
    if call.query.has("sinceSeconds") && call.query.has("sinceTime") {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(meta::field::Error::forbidden(&meta::field::Path::new(""), detail));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&meta::GroupKind::new("", "PodLogOptions"), pod.name(), &errors))
}

/// The kubelet's refusal as ours: its text is the message.
async fn backend_failure(answer: Response<hyper::body::Incoming>) -> Status {
    let code = answer.status().as_u16();
    let response = pass_on(answer);
    let text = match wire::read_all(response.into_body(), 64 * 1024).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(_) => String::new(),
    };
    match code {
        400 => Status::bad_request(text),
        404 => Status::failure(404, meta::reason::NOT_FOUND, text),
        403 => Status::failure(403, meta::reason::FORBIDDEN, text),
        _ => Status::failure(500, meta::reason::INTERNAL_ERROR, text),
    }
}

/// Whether the client wants to upgrade, and to what.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<String> {
    let connection = headers.get(header::CONNECTION)?.to_str().ok()?.to_lowercase();
    if !connection.split(',').any(|c| c.trim() == "upgrade") {
        return None;
    }
    Some(headers.get(header::UPGRADE)?.to_str().ok()?.to_lowercase())
}

/// exec, attach and portforward.
pub(crate) async fn stream(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let pod = find_pod(call, target).await?;
    let sub = call.info.subresource.clone();
    connect_admission(call, target, &sub, &pod).await?;
    let Some(node) = node_of(&pod) else {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", pod.name())));
    };
    let namespace = &target.namespace;
    let path = if sub == "portforward" {
        let query = pass_query(call, &[("ports", "port"), ("port", "port")]);
        format!("/portForward/{namespace}/{}?{query}", pod.name())
    } else {
        let container = container(&pod, call.query.get("container"))?;
        let streams = ["stdin", "stdout", "stderr"].iter().any(|s| call.query.flag(s));
        if !streams {
            return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        if matches!(pod.get_str(&["status", "phase"]), "Succeeded" | "Failed") {
            return Err(Status::bad_request(format!(
                "cannot exec into a container in a completed pod; current phase is {}",
                pod.get_str(&["status", "phase"])
            )));
        }
        let names =
            [("command", "command"), ("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
        format!("/{sub}/{namespace}/{}/{container}?{}", pod.name(), pass_query(call, &names))
    };
    let Some(protocol) = upgrade_of(call.headers()) else {
        return Err(Status::bad_request("Upgrade request required"));
    };
    let backend = call.state.kubelets.of_node(&call.state, node).await?;
    if protocol == "websocket" && tunnel::wants_tunnel(call.headers()) {
        return tunnel::serve(call, &backend, &path).await;
    }
    pass_through(call, &backend, &path).await
}

async fn connect_admission(call: &Call, target: &Target, sub: &str, pod: &Object) -> Result<(), Status> {
    let mut request = target.request(call, "CreateOptions")?;
    let kind = match sub {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        "portforward" => "PodPortForwardOptions",
        _ => "PodProxyOptions",
    };
    request.kind = meta::GroupVersionKind::new("", "v1", kind);
    let mut options = Object::new(&request.kind);
    for (field, shown) in [("stdin", "stdin"), ("stdout", "stdout"), ("stderr", "stderr"), ("tty", "tty")] {
        if call.query.has(field) {
            options.body.insert(shown.into(), call.query.flag(field).into());
        }
    }
    if call.query.has("container") {
        options.body.insert("container".into(), call.query.get("container").into());
    }
    options.body.insert("command".into(), json!(call.query.all("command")));
    let admit = call.state.registry.admit();
    let attributes = request.attributes(Operation::Connect, pod.name(), None);
    admit.mutate(&attributes, Some(&mut options)).await?;
    admit.validate(&attributes, Some(&options)).await
}

/// Sends the request on with its upgrade headers and joins both connections when the backend agrees.
pub(crate) async fn pass_through(
    call: &mut Call,
    backend: &crate::kubelet::Backend,
    path: &str,
) -> Result<Response<Body>, Status> {
    let mut headers = call.head.headers.clone();
    strip_hop_headers(&mut headers, true);
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::HOST);
    let mut request = Request::new(wire::empty());
    *request.method_mut() = call.head.method.clone();
    *request.uri_mut() = path.parse().map_err(Status::internal)?;
    *request.headers_mut() = headers;
    *request.version_mut() = Version::HTTP_11;
    let mut answer = call.state.kubelets.send(backend, request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(backend_failure(answer).await);
    }
    let mut ours = Request::new(wire::empty());
    *ours.extensions_mut() = std::mem::take(&mut call.head.extensions);
    let Some(client) = wire::upgrade(&mut ours) else {
        return Err(Status::bad_request("this connection cannot be upgraded"));
    };
    let server = hyper::upgrade::on(&mut answer);
    let mut response = Response::new(wire::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    rt::spawn("tunnel", async move {
        match futures::join!(client, server) {
            (Ok(client), Ok(server)) => wire::splice(client, hyper_util::rt::TokioIo::new(server)).await,
            _ => tracing::debug!("an upgrade was not completed"),
        }
    });
    Ok(response)
}
