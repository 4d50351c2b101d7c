//! Mirror pods: the API objects that let static pods be seen.

use std::sync::Arc;

use client::{Client, DeleteOptions};
use parking_lot::Mutex;
use rt::HashMap;

use crate::k8s::{CONFIG_HASH, CONFIG_MIRROR, Kind, Pod, PodExt};
use crate::statuses::Target;

/// The mirror pods of this node, by namespace and name.
pub struct Mirrors {
    client: Option<Client>,
    node_name: String,
    known: Mutex<HashMap<(String, String), Arc<Pod>>>,
}

impl Mirrors {
    /// None yet.
    #[must_use]
    pub fn new(client: Option<Client>, node_name: &str) -> Arc<Self> {
        Arc::new(Self { client, node_name: node_name.to_owned(), known: Mutex::default() })
    }

    /// A mirror pod was seen.
    pub fn seen(&self, pod: Arc<Pod>) {
        self.known.lock().insert((pod.namespace().to_owned(), pod.name().to_owned()), pod);
    }

    /// A mirror pod is gone.
    pub fn gone(&self, pod: &Pod) {
        let key = (pod.namespace().to_owned(), pod.name().to_owned());
        let mut known = self.known.lock();
        if known.get(&key).is_some_and(|k| k.uid() == pod.uid()) {
            known.remove(&key);
        }
    }

    /// The mirror pod of a static pod, as the target of its status.
    #[must_use]
    pub fn target(&self, pod: &Pod) -> Option<Target> {
        let known = self.known.lock();
        let mirror = known.get(&(pod.namespace().to_owned(), pod.name().to_owned()))?;
        Some(Target {
            namespace: mirror.namespace().to_owned(),
            name: mirror.name().to_owned(),
            uid: mirror.uid().to_owned(),
        })
    }

    /// All mirror pods.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.known.lock().values().cloned().collect()
    }

    /// Makes the mirror of a static pod, or replaces an outdated one.
    ///
    /// # Errors
    /// See [`client::Error`].
    pub async fn ensure(&self, pod: &Pod) -> Result<(), client::Error> {
        let Some(client) = &self.client else { return Ok(()) };
        let hash = pod.annotation(CONFIG_HASH).unwrap_or_default().to_owned();
        let known = self.known.lock().get(&(pod.namespace().to_owned(), pod.name().to_owned())).cloned();
        if let Some(known) = known {
            if known.annotation(CONFIG_MIRROR) == Some(&hash) && !known.is_deleting() {
                return Ok(());
            }
            self.delete(&known).await?;
        }
        let mut mirror = pod.clone();
        mirror.status = None;
        mirror.metadata.uid = None;
        mirror.metadata.annotations.get_or_insert_default().insert(CONFIG_MIRROR.to_owned(), hash);
        if let Ok(node) = client.get::<crate::k8s::Node>("", &self.node_name).await {
            mirror.metadata.owner_references = Some(vec![api::metav1::OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: self.node_name.clone(),
                uid: node.uid().to_owned(),
                controller: Some(true),
                ..Default::default()
            }]);
        }
        match client.create(&mirror).await {
            Ok(made) => {
                self.seen(Arc::new(made));
                Ok(())
            }
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes a mirror pod at once.
    ///
    /// # Errors
    /// See [`client::Error`].
    pub async fn delete(&self, mirror: &Pod) -> Result<(), client::Error> {
        let Some(client) = &self.client else { return Ok(()) };
        match client.delete::<Pod>(mirror.namespace(), mirror.name(), &DeleteOptions::now(mirror.uid())).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        self.gone(mirror);
        Ok(())
    }
}

/// Whether a mirror pod has no static pod behind it any more.
#[must_use]
pub fn orphaned(mirror: &Pod, pods: &super::file::Pods) -> bool {
    !pods.values().any(|p| p.name() == mirror.name() && p.namespace() == mirror.namespace() && p.is_static())
}
