//! The store: reading and changing its state, layers in use, removal.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use node_api::{ImageContent, ImageSpec};
use parking_lot::Mutex;

use crate::pull::Registries;
use crate::state::{FORMAT, ImageRecord, LayerRecord, State};
use crate::unpack::{Unpacked, inherit_directory};
use crate::{Error, Result};

/// How long a layer that no image has yet is kept for the pull that unpacked it.
const UNCLAIMED_SECONDS: i64 = 3600;
/// How long a directory may be without its lock when it is new.
const FRESH: std::time::Duration = std::time::Duration::from_secs(60);

/// A store of images; cheap to clone.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) registries: Mutex<Option<Arc<Registries>>>,
    cache: Mutex<Cached>,
    /// Whether pods take an image that is here without asking its registry.
    pub(crate) prefer_present: AtomicBool,
    /// Layers were unpacked that may not be on disk yet.
    unsynced: AtomicBool,
    /// One pull at a time per name.
    pub(crate) pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The state as last read, and which file that was.
#[derive(Default)]
struct Cached {
    stamp: Option<(u64, i64, i64, u64)>,
    state: Arc<State>,
}

/// A directory that a layer is unpacked into, not yet part of the store.
pub(crate) struct Staging {
    pub(crate) dir: PathBuf,
    _lock: File,
    keep: bool,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = sys::fs::remove_tree(&self.dir)
        {
            tracing::warn!(error = error.line(), "a half unpacked layer could not be removed");
        }
    }
}

impl Store {
    /// Opens (makes) the store in a directory. How registries are reached is read at each pull from
    /// `registries.json` in it (the JSON of [`Registries`]) where that is there, unless [`Store::set_registries`] says
    /// it.
    ///
    /// # Errors
    /// A format newer than this one; files that cannot be read or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let root = dir.as_ref().to_owned();
        for sub in ["layers", "uses"] {
            let path = root.join(sub);
            std::fs::create_dir_all(&path).map_err(|e| Error::io("make", &path, e))?;
        }
        let root = std::fs::canonicalize(&root).map_err(|e| Error::io("resolve", &root, e))?;
        let store = Self(Arc::new(Inner {
            root,
            registries: Mutex::default(),
            cache: Mutex::default(),
            prefer_present: AtomicBool::new(false),
            unsynced: AtomicBool::new(false),
            pulls: Mutex::default(),
        }));
        let state = store.state()?;
        if state.format > FORMAT {
            return Err(Error::Unusable(format!(
                "the image store has format {}, newer than this program's {FORMAT}",
                state.format
            )));
        }
        store.sweep()?;
        Ok(store)
    }

    /// Lets pods take an image that is here, whatever their pull policy: the workshop, where images are imported and no
    /// registry may be in reach.
    pub fn prefer_present(&self) {
        self.0.prefer_present.store(true, Ordering::Relaxed);
    }

    /// Sets how registries are reached.
    pub fn set_registries(&self, registries: Registries) {
        *self.0.registries.lock() = Some(Arc::new(registries));
    }

    pub(crate) fn registries(&self) -> Result<Arc<Registries>> {
        if let Some(set) = &*self.0.registries.lock() {
            return Ok(Arc::clone(set));
        }
        let path = self.0.root.join("registries.json");
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Arc::new)
                .map_err(|source| Error::Document { what: path.display().to_string(), source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Arc::default()),
            Err(error) => Err(Error::io("read", &path, error)),
        }
    }

    fn state_path(&self) -> PathBuf {
        self.0.root.join("state.json")
    }

    pub(crate) fn layers_dir(&self) -> PathBuf {
        self.0.root.join("layers")
    }

    /// The state as it is now, read again only where the file changed.
    pub(crate) fn state(&self) -> Result<Arc<State>> {
        let path = self.state_path();
        let stamp = match std::fs::metadata(&path) {
            Ok(meta) => Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("stat", &path, error)),
        };
        let mut cache = self.0.cache.lock();
        if stamp.is_none() {
            *cache = Cached::default();
        } else if cache.stamp != stamp {
            let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
            let state = serde_json::from_slice(&text)
                .map_err(|source| Error::Document { what: path.display().to_string(), source })?;
            *cache = Cached { stamp, state: Arc::new(state) };
        }
        Ok(Arc::clone(&cache.state))
    }

    /// Changes the state, alone among all processes. Nothing is written where `change` fails. It survives a crash of
    /// the process; for one of the machine see [`Store::change_durably`].
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.change_with(change, sys::fs::write_atomic)
    }

    /// [`Store::change`] that survives a loss of power, with all layers unpacked before.
    pub(crate) fn change_durably<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        if self.0.unsynced.swap(false, Ordering::Relaxed) {
            let dir = self.layers_dir();
            let synced = File::open(&dir).and_then(|d| Ok(rustix::fs::syncfs(d)?));
            synced.map_err(|e| Error::io("sync", &dir, e))?;
        }
        self.change_with(change, sys::fs::write_durable)
    }

    fn change_with<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T>,
        write: fn(&Path, &[u8]) -> sys::Result<()>,
    ) -> Result<T> {
        let path = self.0.root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|e| Error::io("open", &path, e))?;
        lock.lock().map_err(|e| Error::io("lock", &path, e))?;
        let mut state = State::clone(&*self.state()?);
        state.format = FORMAT;
        let done = change(&mut state)?;
        let text = serde_json::to_vec(&state)
            .map_err(|source| Error::Document { what: "the store's state".into(), source })?;
        write(&self.state_path(), &text)?;
        Ok(done)
    }

    /// A fresh directory to unpack into; removed again unless it becomes a layer.
    pub(crate) fn stage(&self) -> Result<Staging> {
        let mut random = [0u8; 8];
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::io("read", "random bytes", e.into()))?;
        let dir = self.layers_dir().join(format!(".new-{:016x}", u64::from_ne_bytes(random)));
        std::fs::create_dir(&dir).map_err(|e| Error::io("make", &dir, e))?;
        let lock = File::open(&dir).map_err(|e| Error::io("open", &dir, e))?;
        lock.lock().map_err(|e| Error::io("lock", &dir, e))?;
        Ok(Staging { dir, _lock: lock, keep: false })
    }

    /// Makes an unpacked directory the layer with this diff id; where another was faster, that one stays.
    pub(crate) fn commit_layer(&self, mut staging: Staging, diff_id: &str, unpacked: Unpacked) -> Result<()> {
        self.change(|state| {
            if state.layers.contains_key(diff_id) {
                return Ok(());
            }
            state.next_layer += 1;
            let name = state.next_layer.to_string();
            let dir = self.layers_dir().join(&name);
            // Of a process that was killed between its rename and its state: nobody knows that directory.
            sys::fs::remove_tree(&dir)?;
            std::fs::rename(&staging.dir, &dir).map_err(|e| Error::io("name", &dir, e))?;
            staging.keep = true;
            self.0.unsynced.store(true, Ordering::Relaxed);
            state.layers.insert(
                diff_id.to_owned(),
                LayerRecord {
                    dir: name,
                    size: unpacked.size,
                    inodes: unpacked.inodes,
                    implicit: unpacked.implicit,
                    since: now_seconds(),
                    claimed: false,
                },
            );
            Ok(())
        })
    }

    /// Removes directories that belong to nothing: of crashed imports, and of layers no image has.
    fn sweep(&self) -> Result<()> {
        let dir = self.layers_dir();
        let state = self.state()?;
        let known: BTreeSet<&str> = state.layers.values().map(|l| l.dir.as_str()).collect();
        for entry in std::fs::read_dir(&dir).map_err(|e| Error::io("read", &dir, e))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if known.contains(name.as_str()) {
                continue;
            }
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            let fresh = name.starts_with('.') && age.is_none_or(|age| age < FRESH);
            let free = !fresh && File::open(entry.path()).is_ok_and(|f| f.try_lock().is_ok());
            // A number not yet in the state read above: another process may be making that layer just now.
            let number: u64 = name.parse().unwrap_or(0);
            if free && number <= state.next_layer {
                sys::fs::remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Stores an image whose layers are all there, and names it.
    pub(crate) fn put(&self, id: &str, record: ImageRecord, tag: Option<String>, digest: Option<String>) -> Result<()> {
        self.change_durably(|state| {
            if let Some(missing) = record.layers.iter().find(|l| !state.layers.contains_key(*l)) {
                return Err(Error::Unusable(format!("layer {missing} is missing")));
            }
            let now = now_seconds();
            self.describe_implicit(state, &record.layers)?;
            for layer in &record.layers {
                if let Some(layer) = state.layers.get_mut(layer) {
                    layer.claimed = true;
                }
            }
            let pinned = record.pinned;
            let image = state.images.entry(id.to_owned()).or_insert(record);
            image.last_used = now;
            image.pinned |= pinned;
            state.name(id, tag, digest);
            Ok(())
        })
    }

    /// Directories that a layer's archive does not describe look as in the layers below, as they would had the archive
    /// been unpacked on top of those. Done once for each layer, with the first image that has it.
    fn describe_implicit(&self, state: &mut State, layers: &[String]) -> Result<()> {
        let dir = |state: &State, layer: &String| state.layers.get(layer).map(|l| self.layers_dir().join(&l.dir));
        for (index, layer) in layers.iter().enumerate() {
            let implicit = match state.layers.get_mut(layer) {
                Some(record) if !record.claimed => std::mem::take(&mut record.implicit),
                _ => continue,
            };
            let Some(upper) = dir(state, layer) else { continue };
            for path in implicit {
                for lower in layers[..index].iter().rev().filter_map(|l| dir(state, l)) {
                    if inherit_directory(&lower, &upper, &path)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// All images: id and record.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn list(&self) -> Result<Vec<(String, ImageRecord)>> {
        let state = self.state()?;
        Ok(state.images.iter().map(|(id, image)| (format!("sha256:{id}"), image.clone())).collect())
    }

    /// The content of a stored image.
    ///
    /// # Errors
    /// The state cannot be read. `None` where the image is not stored.
    pub fn find(&self, image: &ImageSpec) -> Result<Option<ImageContent>> {
        let state = self.state()?;
        let Some(id) = state.find(&image.image) else { return Ok(None) };
        let Some(record) = state.images.get(&id) else { return Ok(None) };
        let layers = record.layers.iter().filter_map(|l| state.layers.get(l));
        let layers: Vec<PathBuf> = layers.map(|l| self.layers_dir().join(&l.dir)).collect();
        let id = format!("sha256:{id}");
        // The repository digest of the name asked for, else any, else the id.
        let repository = crate::reference::parse(&image.user_specified_image)
            .or_else(|_| crate::reference::parse(&image.image))
            .map(|r| format!("{}@", crate::reference::repository_name(&r)))
            .unwrap_or_default();
        let wanted = record.digests.iter().find(|d| !repository.is_empty() && d.starts_with(&repository));
        let image_ref = wanted.or(record.digests.first()).cloned().unwrap_or_else(|| id.clone());
        let asked = crate::canonical_name(&image.user_specified_image).or_else(|_| crate::canonical_name(&image.image));
        let name = record.tags.iter().find(|t| asked.as_ref().is_ok_and(|a| a == *t)).or(record.tags.first()).cloned();
        let name = name.unwrap_or_default();
        Ok(Some(ImageContent { id, name, image_ref, layers, config: record.config.clone() }))
    }

    /// Removes a name, and the image with its last one; an id removes all names. What a container uses stays, without
    /// a name, until it is released. Absent is fine.
    ///
    /// # Errors
    /// The state cannot be changed; files that cannot be removed.
    pub fn remove(&self, image: &str) -> Result<()> {
        let by_id = crate::reference::as_id(image).is_some();
        let name = crate::reference::canonical_name(image).unwrap_or_default();
        self.change(|state| {
            let Some(id) = state.find(image) else { return Ok(()) };
            if let Some(record) = state.images.get_mut(&id) {
                if by_id {
                    record.tags.clear();
                    record.digests.clear();
                }
                record.tags.retain(|t| *t != name);
                record.digests.retain(|d| *d != name);
                if record.tags.is_empty() {
                    record.digests.clear();
                    record.pinned = false;
                }
            }
            Ok(())
        })?;
        self.drop_unnamed()
    }

    /// Removes images without a name that nobody uses, and layers that no image has.
    pub(crate) fn drop_unnamed(&self) -> Result<()> {
        let gone = self.change_durably(|state| {
            let used = self.used_images();
            state.images.retain(|id, image| {
                !image.tags.is_empty() || !image.digests.is_empty() || image.pinned || used.contains(id)
            });
            let wanted: BTreeSet<&String> = state.images.values().flat_map(|i| &i.layers).collect();
            let now = now_seconds();
            let expected = |l: &LayerRecord| !l.claimed && now - l.since < UNCLAIMED_SECONDS;
            let unwanted = state.layers.iter().filter(|(id, l)| !wanted.contains(id) && !expected(l));
            let unwanted: Vec<String> = unwanted.map(|(id, _)| id.clone()).collect();
            Ok(unwanted.iter().filter_map(|l| state.layers.remove(l)).collect::<Vec<_>>())
        })?;
        for layer in gone {
            sys::fs::remove_tree(&self.layers_dir().join(layer.dir))?;
        }
        Ok(())
    }

    /// Removes unused images, the longest unused first, until at least `bytes` are free again or none is left; gives
    /// the bytes freed. Pinned images stay.
    ///
    /// # Errors
    /// The state cannot be changed.
    pub fn collect_garbage(&self, bytes: u64) -> Result<u64> {
        let used = self.used_images();
        let state = self.state()?;
        let free = |(id, image): &(&String, &ImageRecord)| !image.pinned && !used.contains(*id);
        let mut candidates: Vec<_> = state.images.iter().filter(free).collect();
        candidates.sort_by_key(|(_, image)| image.last_used);
        let total = |state: &State| state.layers.values().map(|l| l.size).sum::<u64>();
        let before = total(&state);
        for (id, _) in candidates {
            let freed = before.saturating_sub(total(&*self.state()?));
            if freed >= bytes {
                break;
            }
            self.remove(id)?;
        }
        Ok(before.saturating_sub(total(&*self.state()?)))
    }

    fn uses_dir(&self, user: &str) -> PathBuf {
        self.0.root.join("uses").join(user)
    }

    /// Ids of images that containers use.
    pub(crate) fn used_images(&self) -> BTreeSet<String> {
        let users = std::fs::read_dir(self.0.root.join("uses")).into_iter().flatten().flatten();
        let files = users.flat_map(|user| std::fs::read_dir(user.path()).into_iter().flatten().flatten());
        files.map(|f| f.file_name().to_string_lossy().into_owned()).collect()
    }

    pub(crate) fn acquire_image(&self, image_id: &str, user: &str) -> Result<()> {
        let dir = self.uses_dir(user);
        std::fs::create_dir_all(&dir).map_err(|e| Error::io("make", &dir, e))?;
        let hex = image_id.trim_start_matches("sha256:");
        let path = dir.join(hex);
        File::create(&path).map_err(|e| Error::io("make", &path, e))?;
        // Looked at after the mark is set: who removes images looks at marks first.
        if self.state()?.images.contains_key(hex) {
            return Ok(());
        }
        let _ = std::fs::remove_file(&path);
        Err(Error::Unusable(format!("image {image_id} is not stored any more")))
    }

    pub(crate) fn release_image(&self, user: &str) -> Result<()> {
        let dir = self.uses_dir(user);
        let images: Vec<String> = std::fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|f| f.file_name().to_string_lossy().into_owned())
            .collect();
        sys::fs::remove_tree(&dir)?;
        let state = self.state()?;
        let unnamed =
            |id: &String| state.images.get(id).is_some_and(|i| i.tags.is_empty() && i.digests.is_empty() && !i.pinned);
        if images.iter().any(unnamed) { self.drop_unnamed() } else { Ok(()) }
    }
}

pub(crate) fn now_seconds() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}
