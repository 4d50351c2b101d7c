//! The image that is always there: this program itself.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use node_api::ImageRunConfig;

use crate::state::ImageRecord;
use crate::unpack::{Unpacked, digest_of};
use crate::{Error, Result, Store};

impl Store {
    /// Makes sure that the built-in image `name` (`corten.local/corten:<version>`) holds `program`, which becomes
    /// `/corten` with links of other names beside it; gives its id. Cheap when nothing changed: the program is told
    /// apart by device, inode, size and time, and linked, not copied, where the store is on its file system, so that
    /// its pages are shared with this process.
    ///
    /// # Errors
    /// The program cannot be read, the store not written.
    pub fn ensure_builtin(&self, name: &str, program: &Path) -> Result<String> {
        let name = crate::canonical_name(name)?;
        let program = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
        let meta = std::fs::metadata(&program).map_err(|e| Error::io("stat", &program, e))?;
        let stamp = format!(
            "corten-builtin {name} {} {} {} {}.{}",
            meta.dev(),
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        // Not a digest of an archive, as there is none: this layer never leaves the machine.
        let diff_id = digest_of(stamp.as_bytes());
        let id = digest_of(format!("{stamp} config").as_bytes());
        let hex = id.trim_start_matches("sha256:").to_owned();
        let there = |state: &crate::state::State| {
            // Looked at, since it is not synced to disk: after a loss of power it may be empty.
            state.layers.get(&diff_id).is_some_and(|layer| {
                let file = self.layers_dir().join(&layer.dir).join("corten");
                std::fs::metadata(file).is_ok_and(|m| m.len() == meta.len())
            })
        };
        let state = self.state()?;
        let whole = there(&state);
        if whole && state.find(&name).as_ref() == Some(&hex) {
            return Ok(id);
        }
        if !whole {
            self.change(|state| Ok(state.layers.remove(&diff_id)))?;
            let staging = self.stage()?;
            let inodes = fill(&staging.dir, &program)?;
            let unpacked = Unpacked { size: meta.len(), inodes, ..Unpacked::default() };
            self.commit_layer(staging, &diff_id, unpacked)?;
        }
        let config = ImageRunConfig {
            entrypoint: vec!["/corten".to_owned()],
            env: vec!["PATH=/bin".to_owned()],
            ..ImageRunConfig::default()
        };
        let last_used = crate::store::now_seconds();
        let record = ImageRecord { layers: vec![diff_id], config, pinned: true, last_used, ..ImageRecord::default() };
        let old = self.change(|state| {
            for layer in &record.layers {
                if let Some(layer) = state.layers.get_mut(layer) {
                    layer.claimed = true;
                }
            }
            state.images.insert(hex.clone(), record);
            state.name(&hex, Some(name), None);
            // Built-in images of earlier programs have lost their name; they go when nobody uses them.
            let mut old = false;
            for (_, image) in state.images.iter_mut().filter(|(_, i)| i.pinned && i.tags.is_empty()) {
                (image.pinned, old) = (false, true);
            }
            Ok(old)
        })?;
        if old {
            self.drop_unnamed()?;
        }
        Ok(id)
    }
}

fn fill(dir: &Path, program: &Path) -> Result<u64> {
    let target = dir.join("corten");
    if std::fs::hard_link(program, &target).is_err() {
        std::fs::copy(program, &target).map_err(|e| Error::io("copy to", &target, e))?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&target, mode).map_err(|e| Error::io("change mode of", &target, e))?;
    }
    for sub in ["bin", "etc", "tmp"] {
        let path = dir.join(sub);
        std::fs::create_dir(&path).map_err(|e| Error::io("make", &path, e))?;
    }
    let tmp = dir.join("tmp");
    std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o1777))
        .map_err(|e| Error::io("change mode of", &tmp, e))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
        .map_err(|e| Error::io("change mode of", dir, e))?;
    let link = dir.join("bin/corten");
    std::os::unix::fs::symlink("/corten", &link).map_err(|e| Error::io("link", &link, e))?;
    let users = "root:x:0:0:root:/:/corten\nnobody:x:65534:65534:nobody:/:/corten\n";
    let groups = "root:x:0:\nnogroup:x:65534:\n";
    for (name, text) in [("etc/passwd", users), ("etc/group", groups)] {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|e| Error::io("write", &path, e))?;
    }
    Ok(8)
}
