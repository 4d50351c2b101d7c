//! `/containerLogs` and `/logs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use node_api::ContainerState;
use rt::sync::watch;
use wire::Body;

use super::{Query, not_found, text};
use crate::k8s::{ContainerStatus, Kind, PodStatus};
use crate::logs::{self, Options};
use crate::shared::Shared;

fn bad(message: String) -> Response<Body> {
    text(StatusCode::BAD_REQUEST, message)
}

fn options(query: &Query) -> Result<Options, Response<Body>> {
    let number = |name: &str| match query.get(name) {
        None | Some("") => Ok(None),
        Some(value) => value.parse::<u64>().map(Some).map_err(|_| bad(format!("invalid {name}: {value:?}"))),
    };
    let ago = number("sinceSeconds")?.map(Duration::from_secs).and_then(|ago| rt::time::now().checked_sub(ago).ok());
    let since = match query.get("sinceTime").filter(|t| !t.is_empty()) {
        None => ago,
        Some(time) => Some(time.parse().map_err(|_| bad(format!("invalid sinceTime: {time:?}")))?),
    };
    Ok(Options {
        follow: query.flag(&["follow"]),
        tail: number("tailLines")?.or(number("tail")?),
        since,
        limit_bytes: number("limitBytes")?,
        timestamps: query.flag(&["timestamps"]),
        stream: query.get("stream").filter(|s| !s.is_empty() && *s != "All").map(str::to_owned),
    })
}

/// The log of a container.
pub async fn container(
    shared: &Arc<Shared>,
    changes: &Arc<watch::Sender<u64>>,
    (namespace, pod_name, name): (&str, &str, &str),
    query: &Query,
) -> Response<Body> {
    let Some(handle) = shared.find(namespace, pod_name, None) else {
        return text(StatusCode::NOT_FOUND, format!("pod {pod_name:?} does not exist\n"));
    };
    let pod = handle.pod();
    let spec = pod.spec.as_ref();
    let known = pod_containers(&pod).any(|n| n == name);
    if spec.is_none() || !known {
        return text(StatusCode::NOT_FOUND, format!("container {name:?} not found in pod {pod_name:?}\n"));
    }
    let options = match options(query) {
        Ok(options) => options,
        Err(refusal) => return refusal,
    };
    let status = shared.statuses.get(pod.uid()).or_else(|| pod.status.clone().map(Arc::new));
    let id = match container_id(status.as_deref(), pod_name, name, query.flag(&["previous"])) {
        Ok(id) => id,
        Err(message) => return bad(message),
    };
    let id = id.rsplit_once("://").map_or(id.as_str(), |(_, id)| id).to_owned();
    let path = match shared.runtime.container_status(&id).await {
        Ok(status) => PathBuf::from(status.log_path),
        Err(error) => {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("unable to retrieve container logs for {id}: {}", error.chain()),
            );
        }
    };
    send(shared, changes, path, options, id)
}

fn pod_containers(pod: &crate::k8s::Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.as_ref();
    let all = spec.map(|s| s.containers.iter().chain(s.init_containers.iter().flatten())).into_iter().flatten();
    let ephemeral = spec.and_then(|s| s.ephemeral_containers.as_ref()).into_iter().flatten();
    all.map(|c| c.name.as_str()).chain(ephemeral.map(|c| c.name.as_str()))
}

/// The container whose log is meant; upstream's words where there is none.
fn container_id(status: Option<&PodStatus>, pod: &str, name: &str, previous: bool) -> Result<String, String> {
    let lists = status.map(|s| [&s.container_statuses, &s.init_container_statuses, &s.ephemeral_container_statuses]);
    let found = lists.into_iter().flatten().flat_map(|l| l.iter().flatten()).find(|c| c.name == name);
    let found: &ContainerStatus = found.ok_or_else(|| format!("container {name:?} in pod {pod:?} is not available"))?;
    let what = format!("container {name:?} in pod {pod:?}");
    let state = found.state.clone().unwrap_or_default();
    let last = found.last_state.as_ref().and_then(|l| l.terminated.as_ref()).and_then(|t| t.container_id.clone());
    let last = last.filter(|id| !id.is_empty());
    if previous {
        return last.ok_or_else(|| format!("previous terminated {what} not found"));
    }
    if state.running.is_some() {
        return found.container_id.clone().ok_or_else(|| format!("{what} is not available"));
    }
    if let Some(ended) = &state.terminated {
        let own = ended.container_id.clone().filter(|id| !id.is_empty());
        return own.or(last).ok_or_else(|| format!("{what} is terminated"));
    }
    if let Some(last) = last {
        return Ok(last);
    }
    match state.waiting.and_then(|w| w.reason).as_deref() {
        Some("ErrImagePull") => Err(format!("{what} is waiting to start: image can't be pulled")),
        Some("ImagePullBackOff") => Err(format!("{what} is waiting to start: trying and failing to pull image")),
        Some(reason) => Err(format!("{what} is waiting to start: {reason}")),
        None => Err(format!("{what} is waiting to start - no logs yet")),
    }
}

fn send(
    shared: &Arc<Shared>,
    changes: &Arc<watch::Sender<u64>>,
    path: PathBuf,
    options: Options,
    id: String,
) -> Response<Body> {
    let (out, body) = wire::channel(crate::streaming::DEPTH);
    let (runtime, changed) = (shared.runtime.clone(), changes.subscribe());
    rt::spawn("container log", async move {
        let running = || async {
            let status = runtime.container_status(&id).await;
            status.is_ok_and(|s| matches!(s.state, ContainerState::Running | ContainerState::Created))
        };
        let result = logs::send(path.clone(), options, out.clone(), running, changed).await;
        if let Err(error) = result {
            let message =
                format!("failed to try resolving symlinks in path {:?}: {error}\n", path.display().to_string());
            let _ = out.send(message.into()).await;
        }
    });
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A file or listing of the node's log directory.
pub fn host(rest: &[&str]) -> Response<Body> {
    let root = Path::new("/var/log");
    if rest.iter().any(|p| *p == ".." || p.contains('\0')) {
        return not_found();
    }
    let path = rest.iter().filter(|p| !p.is_empty()).fold(root.to_path_buf(), |path, part| path.join(part));
    // Links must not lead out of the directory.
    let Ok(real) = path.canonicalize() else { return not_found() };
    if !real.starts_with(root) {
        return not_found();
    }
    if real.is_dir() {
        let names = std::fs::read_dir(&real).into_iter().flatten().flatten();
        let mut lines: Vec<String> = names
            .map(|e| {
                let slash = if e.path().is_dir() { "/" } else { "" };
                let name =
                    e.file_name().to_string_lossy().replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
                format!("<a href=\"{name}{slash}\">{name}{slash}</a>\n")
            })
            .collect();
        lines.sort();
        let mut response = text(StatusCode::OK, format!("<pre>\n{}</pre>\n", lines.concat()));
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/html; charset=utf-8"));
        return response;
    }
    match std::fs::read(&real) {
        Ok(bytes) => Response::new(wire::full(bytes)),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
