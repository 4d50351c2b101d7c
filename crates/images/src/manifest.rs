//! The documents of an image: index, manifest, configuration. Only what is used, read leniently.

use std::collections::BTreeMap;

use node_api::ImageRunConfig;
use serde::Deserialize;

use crate::{Error, Result};

/// A reference to content.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) platform: Option<Platform>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// An index or a manifest: whichever fields are there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Manifest {
    pub(crate) manifests: Vec<Descriptor>,
    pub(crate) config: Option<Descriptor>,
    pub(crate) layers: Vec<Descriptor>,
}

impl Manifest {
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        serde_json::from_slice(text).map_err(|source| Error::Document { what: "an image's manifest".into(), source })
    }

    /// The manifest for this machine, of an index.
    pub(crate) fn for_this_machine(&self) -> Result<&Descriptor> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let fits =
            |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture);
        let unnamed = |d: &&Descriptor| d.platform.is_none();
        let found = self.manifests.iter().find(fits).or_else(|| self.manifests.iter().find(unnamed));
        found.ok_or_else(|| Error::Unusable(format!("no match for platform linux/{architecture} in manifest")))
    }
}

/// The configuration of an image.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) architecture: String,
    pub(crate) os: String,
    config: Option<RunConfig>,
    rootfs: Rootfs,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Rootfs {
    diff_ids: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
}

impl Config {
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(text)
            .map_err(|source| Error::Document { what: "an image's configuration".into(), source })?;
        if !config.os.is_empty() && config.os != "linux" {
            return Err(Error::Unusable(format!("the image is for {}, not linux", config.os)));
        }
        Ok(config)
    }

    pub(crate) fn diff_ids(&self) -> &[String] {
        &self.rootfs.diff_ids
    }

    pub(crate) fn run_config(&self) -> ImageRunConfig {
        let config = self.config.clone().unwrap_or_default();
        ImageRunConfig {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            stop_signal: config.stop_signal.unwrap_or_default(),
            volumes: config.volumes.unwrap_or_default().into_keys().collect(),
            labels: config.labels.unwrap_or_default(),
        }
    }
}
