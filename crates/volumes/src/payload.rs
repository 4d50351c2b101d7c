//! Files to be projected, and how ConfigMaps and Secrets become files.

use std::collections::BTreeMap;

use crate::k8s::core::{ConfigMap, KeyToPath, Secret};
use crate::{Error, Result};

/// One file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileProjection {
    /// Content.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner, where it must not be root.
    pub user: Option<u32>,
}

impl FileProjection {
    /// A file of root.
    #[must_use]
    pub fn new(data: Vec<u8>, mode: u32) -> Self {
        Self { data, mode, user: None }
    }
}

/// Relative paths and their files.
pub type Payload = BTreeMap<String, FileProjection>;

/// A mode from the API; upstream's default is 0644.
#[must_use]
pub fn mode(value: Option<i32>) -> u32 {
    value.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644) & 0o7777
}

/// The files of a ConfigMap.
pub fn config_map(map: &ConfigMap, items: Option<&[KeyToPath]>, default_mode: u32, optional: bool) -> Result<Payload> {
    let mut keys: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (key, text) in map.data.iter().flatten() {
        keys.insert(key, text.clone().into_bytes());
    }
    for (key, bytes) in map.binary_data.iter().flatten() {
        keys.insert(key, bytes.0.clone());
    }
    project(keys, items, default_mode, optional, "configmap references non-existent config key")
}

/// The files of a Secret.
pub fn secret(secret: &Secret, items: Option<&[KeyToPath]>, default_mode: u32, optional: bool) -> Result<Payload> {
    let keys = secret.data.iter().flatten().map(|(key, bytes)| (key.as_str(), bytes.0.clone())).collect();
    project(keys, items, default_mode, optional, "references non-existent secret key")
}

fn project(
    mut keys: BTreeMap<&str, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: bool,
    missing: &str,
) -> Result<Payload> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(keys
            .into_iter()
            .map(|(key, data)| (key.to_owned(), FileProjection::new(data, default_mode)))
            .collect());
    };
    let mut payload = Payload::new();
    for item in items {
        let Some(data) = keys.get_mut(item.key.as_str()) else {
            if optional {
                continue;
            }
            return Err(Error::Invalid(format!("{missing}: {}", item.key)));
        };
        let mode = item.mode.map_or(default_mode, |m| mode(Some(m)));
        payload.insert(clean(&item.path), FileProjection::new(data.clone(), mode));
    }
    Ok(payload)
}

/// Removes empty and `.` components; `..` stays and is refused by the writer.
#[must_use]
pub fn clean(path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}
