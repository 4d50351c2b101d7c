//! The one document of a store.

use std::collections::BTreeMap;

use node_api::ImageRunConfig;
use serde::{Deserialize, Serialize};

/// The version of the document; a newer one is refused.
pub(crate) const FORMAT: u32 = 1;

/// All that is known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) format: u32,
    pub(crate) next_layer: u64,
    /// By diff id.
    pub(crate) layers: BTreeMap<String, LayerRecord>,
    /// By id (hexadecimal).
    pub(crate) images: BTreeMap<String, ImageRecord>,
}

/// An unpacked layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerRecord {
    /// The directory's name below `layers`.
    pub dir: String,
    /// Bytes of its files.
    pub size: u64,
    /// Files and directories.
    pub inodes: u64,
    /// Directories its archive did not describe; the layers below do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub implicit: Vec<std::path::PathBuf>,
    /// Seconds since 1970 when it was unpacked.
    pub since: i64,
    /// Some image has it or had it; until then a pull is under way that will want it.
    pub claimed: bool,
}

/// A stored image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRecord {
    /// `registry/repository:tag` names.
    pub tags: Vec<String>,
    /// `registry/repository@sha256:…` names.
    pub digests: Vec<String>,
    /// Diff ids, the lowest first.
    pub layers: Vec<String>,
    /// How to run it.
    pub config: ImageRunConfig,
    /// Never collected: built in, or imported from a file.
    pub pinned: bool,
    /// Seconds since 1970 when it was stored or last given to a container.
    pub last_used: i64,
}

impl State {
    /// Finds an image by id, whole name or repository digest; gives its id.
    pub(crate) fn find(&self, text: &str) -> Option<String> {
        if let Some(hex) = crate::reference::as_id(text) {
            return self.images.contains_key(hex).then(|| hex.to_owned());
        }
        let name = crate::reference::canonical_name(text).ok()?;
        let named = |image: &ImageRecord| image.tags.contains(&name) || image.digests.contains(&name);
        self.images.iter().find(|(_, image)| named(image)).map(|(id, _)| id.clone())
    }

    /// Gives an image a tag, taking it from whichever had it.
    pub(crate) fn name(&mut self, id: &str, tag: Option<String>, digest: Option<String>) {
        for (other, image) in &mut self.images {
            if other != id {
                image.tags.retain(|t| Some(t) != tag.as_ref());
            }
        }
        if let Some(image) = self.images.get_mut(id) {
            add(&mut image.tags, tag);
            add(&mut image.digests, digest);
        }
    }

    /// Bytes of an image's layers.
    pub(crate) fn size(&self, image: &ImageRecord) -> u64 {
        image.layers.iter().filter_map(|l| self.layers.get(l)).map(|l| l.size).sum()
    }
}

fn add(list: &mut Vec<String>, name: Option<String>) {
    if let Some(name) = name
        && !list.contains(&name)
    {
        list.push(name);
    }
}
