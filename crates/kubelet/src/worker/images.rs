//! Having an image: policies, credentials, back-off; and giving up images nobody uses.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use informer::EventType;
use node_api::{AuthConfig, ImageSpec};
use rt::Shutdown;
use rt::time::Timestamp;

use super::Failure;
use crate::k8s::{Kind, Pod, PodExt};
use crate::shared::Shared;
use crate::spec::security::ImageUser;

/// An image that is there.
pub(super) struct Ready {
    /// Its id.
    pub id: String,
    /// Who it runs as.
    pub user: ImageUser,
}

/// Adds `:latest` where neither tag nor digest is given.
#[must_use]
pub fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if image.contains('@') || name.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

fn default_policy(image: &str) -> &'static str {
    if with_tag(image).ends_with(":latest") { "Always" } else { "IfNotPresent" }
}

fn failure(reason: &str, message: String, retry_at: Option<Timestamp>) -> Failure {
    Failure { waiting: (reason.to_owned(), message), retry_at }
}

/// Makes sure that an image is on the node.
pub(super) async fn ensure(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &str,
    image: &str,
    policy: Option<&str>,
    cancel: &Shutdown,
) -> Result<Ready, Failure> {
    let policy = policy.filter(|p| !p.is_empty()).unwrap_or_else(|| default_policy(image));
    let spec = ImageSpec { image: with_tag(image), user_specified_image: image.to_owned(), ..ImageSpec::default() };
    let tell = |kind, reason: &str, text: String| shared.events.container(pod, container, kind, reason, text);
    let known = match shared.images.image_status(&spec).await {
        Ok(known) => known,
        Err(node_api::Error::InvalidImageName { message, .. }) => {
            let text =
                format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {message}");
            tell(EventType::Warning, "InspectFailed", text.clone());
            return Err(failure("InvalidImageName", text, None));
        }
        Err(error) => {
            let text = format!("Failed to inspect image {image:?}: {}", error.chain());
            tell(EventType::Warning, "InspectFailed", text.clone());
            return Err(failure("ImageInspectError", text, None));
        }
    };
    match (known, policy) {
        (Some(known), "IfNotPresent" | "Never") => {
            let text = format!("Container image {image:?} already present on machine and can be accessed by the pod");
            tell(EventType::Normal, "Pulled", text);
            Ok(ready(known))
        }
        (None, "Never") => {
            let text = format!("Container image {image:?} is not present with pull policy of Never");
            tell(EventType::Warning, "ErrImageNeverPull", text.clone());
            Err(failure("ErrImageNeverPull", text, None))
        }
        _ => pull(shared, pod, container, image, &spec, cancel).await,
    }
}

fn ready(image: node_api::Image) -> Ready {
    Ready { id: image.id, user: ImageUser { uid: image.uid, name: image.username } }
}

async fn pull(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &str,
    image: &str,
    spec: &ImageSpec,
    cancel: &Shutdown,
) -> Result<Ready, Failure> {
    let tell = |kind, reason: &str, text: String| shared.events.container(pod, container, kind, reason, text);
    let key = format!("{}_{image}", pod.uid());
    if let Some(until) = shared.pulls.lock().waiting_since_update(&key, rt::time::now()) {
        return Err(failure("ImagePullBackOff", format!("Back-off pulling image {image:?}"), Some(until)));
    }
    tell(EventType::Normal, "Pulling", format!("Pulling image {image:?}"));
    let start = rt::time::Instant::now();
    let auths = credentials(shared, pod, image).await;
    let mut result = Err(node_api::Error::InvalidArgument("no pull was tried".to_owned()));
    for auth in &auths {
        result = match cancel.run(shared.images.pull_image(spec, auth.as_ref(), None)).await {
            Some(result) => result,
            None => return Err(failure("ErrImagePull", "the pod is being deleted".to_owned(), None)),
        };
        if result.is_ok() {
            break;
        }
    }
    match result {
        Ok(id) => {
            let by_id = ImageSpec { image: id.clone(), ..ImageSpec::default() };
            let stored = shared.images.image_status(&by_id).await.ok().flatten();
            let stored = stored.unwrap_or_else(|| node_api::Image { id, ..node_api::Image::default() });
            let took = format!("{:.3}s", start.elapsed().as_secs_f64());
            let text = format!(
                "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {} bytes.",
                stored.size
            );
            tell(EventType::Normal, "Pulled", text);
            shared.pulls.lock().reset(&key);
            Ok(ready(stored))
        }
        Err(error) => {
            let now = rt::time::now();
            shared.pulls.lock().next(&key, now, now);
            let until = shared.pulls.lock().waiting_since_update(&key, now);
            let text = error.chain();
            tell(EventType::Warning, "Failed", format!("Failed to pull image {image:?}: {text}"));
            let reason = match &error {
                node_api::Error::InvalidImageName { .. } => "InvalidImageName",
                node_api::Error::ImagePull { registry_unavailable: true, .. } => "RegistryUnavailable",
                _ => "ErrImagePull",
            };
            tell(EventType::Warning, "Failed", format!("Error: {reason}"));
            Err(failure(reason, text, until))
        }
    }
}

/// What to try: the credentials of the pod's secrets for the image's registry, the longest match first; at last none.
async fn credentials(shared: &Arc<Shared>, pod: &Pod, image: &str) -> Vec<Option<AuthConfig>> {
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    let Some(objects) = &shared.objects else { return vec![None] };
    for reference in pod.spec().image_pull_secrets.iter().flatten().filter(|r| !r.name.is_empty()) {
        let secret = match objects.secret_for(pod.uid(), pod.namespace(), &reference.name).await {
            Ok(Some(secret)) => secret,
            Ok(None) | Err(_) => {
                let text = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    reference.name
                );
                shared.events.pod(pod, EventType::Warning, "FailedToRetrieveImagePullSecret", text);
                continue;
            }
        };
        let data = secret.data.as_ref();
        let new = data.and_then(|d| d.get(".dockerconfigjson"));
        let old = data.and_then(|d| d.get(".dockercfg"));
        let entries = match (new, old) {
            (Some(bytes), _) => {
                let config: serde_json::Value = serde_json::from_slice(&bytes.0).unwrap_or_default();
                config.get("auths").cloned().unwrap_or_default()
            }
            (None, Some(bytes)) => serde_json::from_slice(&bytes.0).unwrap_or_default(),
            (None, None) => continue,
        };
        for (registry, entry) in entries.as_object().into_iter().flatten() {
            if let Some(length) = matches(registry, image) {
                found.push((length, auth(registry, entry)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    let mut all: Vec<Option<AuthConfig>> = found.into_iter().map(|(_, auth)| Some(auth)).collect();
    if all.is_empty() {
        all.push(None);
    }
    all
}

fn auth(registry: &str, entry: &serde_json::Value) -> AuthConfig {
    let text = |key: &str| entry.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let mut auth = AuthConfig {
        username: text("username"),
        password: text("password"),
        auth: text("auth"),
        server_address: registry.to_owned(),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
    };
    if auth.username.is_empty()
        && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(auth.auth.trim())
        && let Some((user, password)) = String::from_utf8_lossy(&bytes).split_once(':')
    {
        (auth.username, auth.password) = (user.to_owned(), password.to_owned());
    }
    auth
}

/// How well a registry of a docker configuration fits an image: the length of what matches.
fn matches(registry: &str, image: &str) -> Option<usize> {
    let plain = registry.trim_start_matches("https://").trim_start_matches("http://");
    let plain = plain.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let first = image.split('/').next().unwrap_or_default();
    let has_registry = image.contains('/') && (first.contains('.') || first.contains(':') || first == "localhost");
    let full = if has_registry { image.to_owned() } else { format!("docker.io/{image}") };
    let plain = if plain == "index.docker.io" { "docker.io" } else { plain };
    let (host, path) = plain.split_once('/').unwrap_or((plain, ""));
    let (image_host, image_path) = full.split_once('/').unwrap_or((&full, ""));
    let labels = |h: &str| h.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, actual) = (labels(host), labels(image_host));
    let hosts_fit = pattern.len() == actual.len() && pattern.iter().zip(&actual).all(|(p, a)| p == "*" || p == a);
    (hosts_fit && image_path.starts_with(path)).then_some(plain.len())
}

/// How long an image must have been out of use before it may go, as upstream's `imageMinimumGCAge`.
const MIN_UNUSED: std::time::Duration = std::time::Duration::from_secs(120);

/// Since when images are not used, by id.
pub type Unused = rt::HashMap<String, rt::time::Instant>;

/// Removes images nobody uses while the disk is fuller than allowed, the longest unused first.
pub async fn image_gc(shared: &Arc<Shared>, unused: &mut Unused) -> node_api::Result<()> {
    let containers = shared.runtime.list_containers(&node_api::ContainerFilter::default()).await?;
    let used: BTreeSet<&str> = containers.iter().flat_map(|c| [c.image_id.as_str(), c.image.image.as_str()]).collect();
    let mut images = shared.images.list_images(None).await?;
    images.retain(|i| {
        !i.pinned && !used.contains(i.id.as_str()) && !i.repo_tags.iter().any(|t| used.contains(t.as_str()))
    });
    let now = rt::time::Instant::now();
    unused.retain(|id, _| images.iter().any(|i| i.id == *id));
    for image in &images {
        unused.entry(image.id.clone()).or_insert(now);
    }
    let infos = shared.images.image_fs_info().await?;
    let Some(mut to_free) =
        infos.first().and_then(|i| excess(&i.mountpoint, shared.config.image_gc_high, shared.config.image_gc_low))
    else {
        return Ok(());
    };
    images.retain(|i| unused.get(&i.id).is_some_and(|since| now.duration_since(*since) >= MIN_UNUSED));
    images.sort_by_key(|i| unused.get(&i.id).copied());
    for image in images {
        if to_free == 0 {
            break;
        }
        let spec = ImageSpec { image: image.id.clone(), ..ImageSpec::default() };
        shared.images.remove_image(&spec).await?;
        tracing::info!(image = image.id, size = image.size, "removed an unused image");
        to_free = to_free.saturating_sub(image.size);
    }
    Ok(())
}

/// How many bytes too many are used, where the use is above `high` percent: down to `low`. Counted as `df` counts, so that
/// blocks kept for root, or lent by a thin pool, are not taken for images.
fn excess(mountpoint: &str, high: u8, low: u8) -> Option<u64> {
    let fs = rustix::fs::statvfs(mountpoint).ok()?;
    let used = fs.f_blocks.saturating_sub(fs.f_bfree) * fs.f_frsize;
    let all = used + fs.f_bavail * fs.f_frsize;
    let percent = |p: u8| all / 100 * u64::from(p.min(100));
    (all > 0 && used > percent(high)).then(|| used - percent(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_policies_and_registries() {
        for (image, tagged, policy) in [
            ("busybox", "busybox:latest", "Always"),
            ("a.b:5000/x", "a.b:5000/x:latest", "Always"),
            ("x:1", "x:1", "IfNotPresent"),
            ("x@sha256:ab", "x@sha256:ab", "IfNotPresent"),
        ] {
            assert_eq!((with_tag(image).as_str(), default_policy(image)), (tagged, policy), "{image}");
        }
        for (registry, image, fits) in [
            ("https://index.docker.io/v1/", "busybox", true),
            ("a.b:5000", "a.b:5000/x/y", true),
            ("a.b:5000/x", "a.b:5000/x/y", true),
            ("a.b:5000/z", "a.b:5000/x/y", false),
            ("*.b.c", "a.b.c/x", true),
            ("b.c", "a.b.c/x", false),
        ] {
            assert_eq!(matches(registry, image).is_some(), fits, "{registry} {image}");
        }
    }
}
