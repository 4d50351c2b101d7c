//! Images: the kubelet's view, and what the runtime needs to run one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ImageSpec, StringMap};

/// One stored image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// `registry/repository:tag` names.
    pub repo_tags: Vec<String>,
    /// `registry/repository@sha256:…` names.
    pub repo_digests: Vec<String>,
    /// Bytes, of the unpacked layers.
    pub size: u64,
    /// The user id of the image's configuration where it is a number.
    pub uid: Option<i64>,
    /// The user name of the configuration otherwise.
    pub username: String,
    /// The configuration's own annotations.
    pub annotations: StringMap,
    /// Never garbage-collected (the built-in image).
    pub pinned: bool,
}

/// Credentials of one pull.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Base64 of `user:password`, instead.
    pub auth: String,
    /// The registry they are for.
    pub server_address: String,
    /// A token to get an access token with.
    pub identity_token: String,
    /// A bearer token.
    pub registry_token: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}

/// How far a pull is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Bytes received.
    pub received: u64,
    /// Bytes in all, where known.
    pub total: u64,
    /// Layers unpacked.
    pub layers_done: u32,
    /// Layers in all.
    pub layers: u32,
}

/// Space that a file system gives and uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesystemUsage {
    /// When, ns since 1970.
    pub timestamp: i64,
    /// The directory measured.
    pub mountpoint: String,
    /// Bytes used by it.
    pub used_bytes: u64,
    /// Inodes used by it.
    pub inodes_used: u64,
    /// Size of the file system.
    pub capacity_bytes: u64,
    /// Bytes left in the file system.
    pub available_bytes: u64,
    /// Inodes of the file system.
    pub inodes: u64,
    /// Inodes left.
    pub inodes_free: u64,
}

/// What an image says about running it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRunConfig {
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// Working directory.
    pub working_dir: String,
    /// Stop signal.
    pub stop_signal: String,
    /// Paths declared as volumes.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: StringMap,
}

/// An image ready to be mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageContent {
    /// `sha256:…`.
    pub id: String,
    /// The name for the container status' `image`: the whole form of the name asked for where the image has it, else
    /// its first tag; empty where it has none.
    pub name: String,
    /// For the container status' `image_ref`.
    pub image_ref: String,
    /// Unpacked layers, overlayfs lowers, the *lowest first*.
    pub layers: Vec<PathBuf>,
    /// How to run it.
    pub config: ImageRunConfig,
}

/// Where the runtime finds root file systems; implemented by `images`.
#[async_trait::async_trait]
pub trait ImageSource: Send + Sync {
    /// Finds a stored image by reference, digest or id; never pulls.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] where it is not stored.
    async fn content(&self, image: &ImageSpec) -> crate::Result<ImageContent>;

    /// Tells that a container uses the image, so that it is not removed under it. `user` is the container's id; a
    /// repeated call changes nothing.
    async fn acquire(&self, image_id: &str, user: &str) -> crate::Result<()>;

    /// Takes back every [`ImageSource::acquire`] of `user`.
    async fn release(&self, user: &str);
}
