//! Static pods: manifests in a directory, followed by inotify.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use rt::Shutdown;
use rt::sync::watch;

use crate::k8s::core::Toleration;
use crate::k8s::{CONFIG_HASH, CONFIG_SOURCE, Pod};

/// The static pods there are, by uid.
pub type Pods = BTreeMap<String, Arc<Pod>>;

/// Reads a directory now and whenever it changes, until told to stop.
pub async fn follow(path: PathBuf, node_name: String, out: watch::Sender<Pods>, shutdown: Shutdown) {
    let notices = Inotify::init().and_then(|inotify| {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::ATTRIB;
        inotify.watches().add(&path, mask)?;
        inotify.into_event_stream([0u8; 4096])
    });
    let mut notices = match notices {
        Ok(notices) => notices,
        Err(error) => {
            tracing::error!(path = %path.display(), error = %error, "cannot watch the directory of static pods");
            out.send_replace(read(&path, &node_name));
            return;
        }
    };
    loop {
        out.send_replace(read(&path, &node_name));
        match shutdown.run(notices.next()).await {
            Some(Some(_)) => {}
            _ => return,
        }
    }
}

/// Reads all manifests; what cannot be read is left out with a word in the log.
#[must_use]
pub fn read(path: &Path, node_name: &str) -> Pods {
    let mut pods = Pods::new();
    let mut files: Vec<PathBuf> = if path.is_dir() {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_file()).collect()
    } else {
        vec![path.to_path_buf()]
    };
    files.sort();
    for file in files {
        if file.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        }
        match std::fs::read_to_string(&file).map_err(|e| e.to_string()).and_then(|text| decode(&text, &file, node_name))
        {
            Ok(pod) => {
                pods.insert(pod.metadata.uid.clone().unwrap_or_default(), Arc::new(pod));
            }
            Err(error) => tracing::error!(file = %file.display(), error, "cannot read a static pod"),
        }
    }
    pods
}

/// Decodes one manifest and gives it what a static pod has: name, uid and hash from its content, and tolerations.
///
/// # Errors
/// A text for the log.
pub fn decode(text: &str, file: &Path, node_name: &str) -> Result<Pod, String> {
    let value: serde_json::Value = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    if value.get("kind").and_then(|k| k.as_str()) != Some("Pod") {
        return Err("the manifest is not a Pod".to_owned());
    }
    let mut pod: Pod = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let seed = format!("{node_name}\0{}\0{text}", file.display());
    let (a, b) = (rt::hash::fnv32a(seed.as_bytes()), rt::hash::fnv32a(format!("{seed}\0").as_bytes()));
    let (c, d) = (rt::hash::fnv32a(format!("\0{seed}").as_bytes()), rt::hash::fnv32a(text.as_bytes()));
    let hash = format!("{a:08x}{b:08x}{c:08x}{d:08x}");
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{}-{}", meta.name.clone().unwrap_or_default(), node_name.to_lowercase()));
    meta.namespace = Some(meta.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned()));
    meta.uid = Some(meta.uid.clone().filter(|u| !u.is_empty()).unwrap_or_else(|| hash.clone()));
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(CONFIG_SOURCE.to_owned(), "file".to_owned());
    annotations.insert(CONFIG_HASH.to_owned(), hash);
    annotations.insert("kubernetes.io/config.seen".to_owned(), rt::time::now().to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    if spec.service_account_name.is_some()
        || spec.volumes.iter().flatten().any(|v| v.config_map.is_some() || v.secret.is_some())
    {
        return Err("a static pod cannot refer to API objects".to_owned());
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    if tolerations.is_empty() {
        tolerations.push(Toleration {
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            ..Toleration::default()
        });
    }
    defaults(&mut pod);
    Ok(pod)
}

/// The defaults that matter to the kubelet and that the API server would have filled in.
fn defaults(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    let host = spec.host_network.unwrap_or(false);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".to_owned());
        container.termination_message_policy.get_or_insert_with(|| "File".to_owned());
        let latest = container
            .image
            .as_deref()
            .is_some_and(|i| i.ends_with(":latest") || !i.rsplit('/').next().unwrap_or(i).contains([':', '@']));
        container.image_pull_policy.get_or_insert_with(|| if latest { "Always" } else { "IfNotPresent" }.to_owned());
        for port in container.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
            if host {
                port.host_port.get_or_insert(port.container_port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_become_pods_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: nginx}]}\n";
        std::fs::write(dir.path().join("a.yaml"), text).unwrap();
        std::fs::write(dir.path().join("b.yaml"), "kind: Service").unwrap();
        std::fs::write(dir.path().join(".hidden"), text).unwrap();
        let pods = read(dir.path(), "Node");
        assert_eq!(pods.len(), 1);
        let pod = pods.values().next().unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(pod.metadata.uid.as_ref(), pods.keys().next());
        assert_eq!(pod.spec.as_ref().unwrap().containers[0].image_pull_policy.as_deref(), Some("Always"));
    }
}
