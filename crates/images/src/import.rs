//! Images from a file: an OCI layout or `docker save`'s archive, plain or compressed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use crate::manifest::{Config, Descriptor, Manifest};
use crate::reference::{canonical, parse, repository_name};
use crate::state::ImageRecord;
use crate::unpack::{decompress, digest_of, unpack};
use crate::{Error, Result, Store};

/// Documents larger than this are none.
const MAX_DOCUMENT_BYTES: u64 = 16 * 1024 * 1024;
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// One image imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// `sha256:…`.
    pub id: String,
    /// Its name, where the file gave one.
    pub name: Option<String>,
}

/// Where each file of the archive lies in it.
struct Archive {
    file: File,
    entries: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Imports every image of a file, and gives what came in. Images that are there already only get their names.
    ///
    /// # Errors
    /// A file that is no image archive, content that does not match its digest; images before the faulty one stay.
    pub async fn import(&self, path: impl AsRef<Path>) -> Result<Vec<Imported>> {
        let (store, path) = (self.clone(), path.as_ref().to_owned());
        let work = move || store.import_blocking(&path);
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Cancelled)?
    }

    /// [`Store::import`] for callers without an async runtime.
    ///
    /// # Errors
    /// As [`Store::import`].
    pub fn import_blocking(&self, path: &Path) -> Result<Vec<Imported>> {
        let mut archive = Archive::open(path, &self.0.root)?;
        if archive.entries.contains_key("index.json") {
            let index = Manifest::parse(&archive.document("index.json")?)?;
            let named = index.manifests.iter().any(|d| name_of(d).is_some());
            if named || !archive.entries.contains_key("manifest.json") {
                return index.manifests.iter().map(|d| self.import_oci(&mut archive, d)).collect();
            }
        }
        if !archive.entries.contains_key("manifest.json") {
            return Err(Error::Unusable(format!("{}: neither an OCI layout nor a docker archive", path.display())));
        }
        let text = archive.document("manifest.json")?;
        let images: Vec<DockerImage> =
            serde_json::from_slice(&text).map_err(|source| Error::Document { what: "manifest.json".into(), source })?;
        let mut imported = Vec::new();
        for image in images {
            imported.extend(self.import_docker(&mut archive, &image)?);
        }
        Ok(imported)
    }

    fn import_oci(&self, archive: &mut Archive, descriptor: &Descriptor) -> Result<Imported> {
        let name = name_of(descriptor);
        let mut manifest = Manifest::parse(&archive.blob(descriptor)?)?;
        let mut depth = 0;
        while !manifest.manifests.is_empty() && depth < 3 {
            let chosen = manifest.for_this_machine()?.clone();
            manifest = Manifest::parse(&archive.blob(&chosen)?)?;
            depth += 1;
        }
        let config = manifest.config.as_ref().ok_or_else(|| Error::Unusable("a manifest without config".into()))?;
        let parsed = Config::parse(&archive.blob(config)?)?;
        let diff_ids = parsed.diff_ids().to_vec();
        if diff_ids.len() != manifest.layers.len() {
            return Err(Error::Unusable("manifest and configuration differ in their layers".into()));
        }
        for (layer, diff_id) in manifest.layers.iter().zip(&diff_ids) {
            self.import_layer(archive, &blob_path(&layer.digest), Some(&layer.digest), diff_id)?;
        }
        let id = hex(&config.digest)?;
        let reference = name.as_deref().map(parse).transpose()?;
        let tag = reference.as_ref().filter(|r| r.digest().is_none()).map(canonical);
        let digest = reference.as_ref().map(|r| format!("{}@{}", repository_name(r), descriptor.digest));
        let record = imported(diff_ids, &parsed);
        self.put(&id, record, tag.clone(), digest)?;
        Ok(Imported { id: format!("sha256:{id}"), name: tag.or(name) })
    }

    fn import_docker(&self, archive: &mut Archive, image: &DockerImage) -> Result<Vec<Imported>> {
        let text = archive.document(&image.config)?;
        let parsed = Config::parse(&text)?;
        let diff_ids = parsed.diff_ids().to_vec();
        if diff_ids.len() != image.layers.len() {
            return Err(Error::Unusable("manifest and configuration differ in their layers".into()));
        }
        for (layer, diff_id) in image.layers.iter().zip(&diff_ids) {
            self.import_layer(archive, layer, None, diff_id)?;
        }
        let id = hex(&digest_of(&text))?;
        let record = imported(diff_ids, &parsed);
        let tags = image.repo_tags.clone().unwrap_or_default();
        let mut named = Vec::new();
        for tag in &tags {
            let tag = canonical(&parse(tag)?);
            self.put(&id, record.clone(), Some(tag.clone()), None)?;
            named.push(Imported { id: format!("sha256:{id}"), name: Some(tag) });
        }
        if tags.is_empty() {
            return Err(Error::Unusable("the archive gives its image no name".into()));
        }
        Ok(named)
    }

    fn import_layer(&self, archive: &mut Archive, path: &str, digest: Option<&str>, diff_id: &str) -> Result<()> {
        if self.state()?.layers.contains_key(diff_id) {
            return Ok(());
        }
        let staging = self.stage()?;
        let unpacked = unpack(archive.reader(path)?, &staging.dir)?;
        check("a layer", diff_id, &unpacked.diff_id)?;
        if let Some(digest) = digest {
            check("a layer", digest, &unpacked.digest)?;
        }
        self.commit_layer(staging, diff_id, unpacked)
    }
}

/// Imported images are pinned, as k3s does: where images come from files there mostly is no registry to get them from
/// again after a garbage collection.
fn imported(layers: Vec<String>, config: &Config) -> ImageRecord {
    ImageRecord { layers, config: config.run_config(), pinned: true, ..ImageRecord::default() }
}

pub(crate) fn check(what: &'static str, expected: &str, actual: &str) -> Result<()> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::Digest { what, expected: expected.to_owned(), actual: actual.to_owned() })
}

/// The hexadecimal part of a digest.
pub(crate) fn hex(digest: &str) -> Result<String> {
    crate::reference::as_id(digest)
        .map(str::to_owned)
        .ok_or_else(|| Error::Unusable(format!("unsupported digest {digest:?}")))
}

fn name_of(descriptor: &Descriptor) -> Option<String> {
    let found = NAME_ANNOTATIONS.iter().find_map(|key| descriptor.annotations.get(*key));
    // A bare tag, as the OCI specification allows in ref.name, names nothing.
    found.filter(|name| name.contains(['/', ':'])).cloned()
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

impl Archive {
    /// Reads the archive's table of contents; a compressed one is first unpacked beside the store.
    fn open(path: &Path, scratch: &Path) -> Result<Self> {
        let bad = |e| Error::io("read", path, e);
        let mut file = File::open(path).map_err(bad)?;
        let mut magic = [0u8; 4];
        let count = file.read(&mut magic).map_err(bad)?;
        file.seek(SeekFrom::Start(0)).map_err(bad)?;
        if magic[..count].starts_with(&[0x1f, 0x8b]) || magic[..count] == [0x28, 0xb5, 0x2f, 0xfd] {
            let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
            let fd = rustix::fs::open(scratch, flags, rustix::fs::Mode::from_raw_mode(0o600));
            let mut plain = File::from(fd.map_err(|e| Error::io("make a file in", scratch, e.into()))?);
            std::io::copy(&mut decompress(file).map_err(bad)?, &mut plain).map_err(bad)?;
            file = plain;
        }
        let mut entries = BTreeMap::new();
        file.seek(SeekFrom::Start(0)).map_err(bad)?;
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek().map_err(bad)? {
            let entry = entry.map_err(bad)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            let place = (entry.raw_file_position(), entry.header().size().map_err(bad)?);
            // Old docker archives link equal layers to each other.
            if entry.header().entry_type().is_symlink() {
                if let Some(target) = entry.link_name_bytes() {
                    let target = String::from_utf8_lossy(&target).trim_start_matches("../").to_owned();
                    if let Some(place) = entries.get(&target).copied() {
                        entries.insert(name, place);
                    }
                }
                continue;
            }
            entries.insert(name, place);
        }
        Ok(Self { file, entries })
    }

    fn reader(&mut self, path: &str) -> Result<std::io::Take<&File>> {
        let place = self.entries.get(path).copied();
        let (offset, size) = place.ok_or_else(|| Error::Unusable(format!("the archive lacks {path}")))?;
        self.file.seek(SeekFrom::Start(offset)).map_err(|e| Error::io("read", path, e))?;
        Ok((&self.file).take(size))
    }

    fn document(&mut self, path: &str) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let reader = self.reader(path)?;
        reader.take(MAX_DOCUMENT_BYTES).read_to_end(&mut text).map_err(|e| Error::io("read", path, e))?;
        Ok(text)
    }

    /// A document by digest, checked.
    fn blob(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        hex(&descriptor.digest)?;
        let text = self.document(&blob_path(&descriptor.digest))?;
        check("a document", &descriptor.digest, &digest_of(&text))?;
        Ok(text)
    }
}
