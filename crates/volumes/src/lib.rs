//! Volumes of pods: one plugin per kind of source, a table of them, and what they share.
//!
//! A plugin's `set_up` brings a volume to the wanted state and may be called again at any time: for the first mount,
//! after a restart of the kubelet, and whenever a ConfigMap, Secret, token or pod field behind it has changed. Teardown
//! needs no pod: it works from the directories and mounts that are there, so that nothing is left behind by a pod whose
//! object is gone.
//!
//! Layout, as upstream's: `<pods>/<uid>/volumes/<plugin>/<name>`, `<pods>/<uid>/volume-subpaths/<volume>/<container>/<n>`.
//! Unlike upstream's, secrets, tokens and projections of all pods live in *one* tmpfs (`memory_dir`), so that starting
//! a pod makes no mount.

pub mod atomic;
mod error;
pub mod fields;
mod manager;
mod mounts;
pub mod ownership;
mod payload;
pub mod plugins;
pub mod quantity;
pub mod subpath;
mod teardown;

pub use error::{Error, Result};
pub use manager::{Mounted, PodContext, Volumes, VolumesConfig};
pub use mounts::{is_mount_point, mount_tmpfs};
pub use payload::{FileProjection, Payload};

/// The typed kinds used here.
pub mod k8s {
    pub use api::k8s_openapi::ByteString;
    pub use api::k8s_openapi::api::authentication::v1 as authentication;
    pub use api::k8s_openapi::api::core::v1 as core;
    pub use api::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    pub use api::k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    pub use api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
}

use std::sync::Arc;

use async_trait::async_trait;

use k8s::authentication::TokenRequest;
use k8s::core::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};

/// Where volumes get API objects from; implemented by the kubelet over its caches.
#[async_trait]
pub trait Objects: Send + Sync {
    /// A ConfigMap.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it does not exist.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>>;
    /// A Secret.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it does not exist.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>>;
    /// A token of a service account, from a cache while most of its life is left.
    async fn token(&self, namespace: &str, account: &str, request: &TokenRequest) -> Result<TokenRequest>;
    /// A claim.
    async fn claim(&self, namespace: &str, name: &str) -> Result<PersistentVolumeClaim>;
    /// A persistent volume.
    async fn persistent_volume(&self, name: &str) -> Result<PersistentVolume>;
    /// The concatenated PEM of cluster trust bundles: by name, or by signer and label selector.
    async fn trust_bundle(&self, source: &k8s::core::ClusterTrustBundleProjection) -> Result<String>;
}
