//! Replaces a directory's projected files all at once, in upstream's layout.
//!
//! The files live in a timestamped directory; `..data` is a link to it, swapped by rename, and every top-level name is
//! a link through `..data`. A reader that opens `..data` once sees one consistent state; an unchanged payload touches
//! nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, FileProjection, Payload, Result};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Brings `target` to hold exactly `payload`. `set_ownership` is applied to the new directory before it is visible.
/// Returns whether anything was written.
///
/// # Errors
/// [`Error::Invalid`] for a path that is absolute, empty, starts with `..` or contains it; [`Error::Io`] otherwise.
pub fn write(target: &Path, payload: &Payload, set_ownership: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let data = target.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(name) => Some(target.join(name)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Error::io("reading link", data, e)),
    };
    let (mut stale, mut changed) = (BTreeSet::new(), true);
    if let Some(old) = &old {
        let present = files_below(old)?;
        let stale_files: Vec<&String> = present.iter().filter(|path| !payload.contains_key(*path)).collect();
        changed = !stale_files.is_empty() || payload.iter().any(|(path, file)| differs(&old.join(path), file));
        let wanted: BTreeSet<&str> = payload.keys().map(|path| top(path)).collect();
        stale = stale_files.iter().map(|path| top(path)).filter(|t| !wanted.contains(t)).map(str::to_owned).collect();
    }
    if changed {
        let fresh = new_directory(target)?;
        let result =
            write_files(&fresh, payload).and_then(|()| set_ownership(&fresh)).and_then(|()| swap(target, &fresh));
        if let Err(error) = result {
            // The old state stays visible; a half-written directory must not.
            let _ = fs::remove_dir_all(&fresh);
            return Err(error);
        }
    }
    link_names(target, payload)?;
    for name in stale {
        let path = target.join(name);
        fs::remove_file(&path).or_else(absent_is_fine).map_err(|e| Error::io("removing", path, e))?;
    }
    if changed && let Some(old) = old {
        fs::remove_dir_all(&old).or_else(absent_is_fine).map_err(|e| Error::io("removing", old, e))?;
    }
    Ok(changed)
}

fn absent_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn check_path(path: &str) -> Result<()> {
    let bad = path.is_empty() || path.len() > 4096 || path.starts_with('/') || path.split('/').any(|part| part == "..");
    if bad || path.starts_with("..") {
        return Err(Error::Invalid(format!(
            "invalid path: must be relative and not contain or start with '..': {path}"
        )));
    }
    Ok(())
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn differs(path: &Path, file: &FileProjection) -> bool {
    match (fs::metadata(path), fs::read(path)) {
        (Ok(meta), Ok(content)) => content != file.data || !meta.is_file(),
        _ => true,
    }
}

fn files_below(dir: &Path) -> Result<BTreeSet<String>> {
    let (mut found, mut queue) = (BTreeSet::new(), vec![PathBuf::new()]);
    while let Some(relative) = queue.pop() {
        let here = dir.join(&relative);
        let entries = match fs::read_dir(&here) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("listing", here, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("listing", &here, e))?;
            let path = relative.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                queue.push(path);
            } else {
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

fn new_directory(target: &Path) -> Result<PathBuf> {
    let stamp = rt::time::now().strftime("%Y_%m_%d_%H_%M_%S").to_string();
    for attempt in 0u32..1000 {
        let nanos = rt::time::now().subsec_nanosecond();
        let path = target.join(format!("..{stamp}.{}", i64::from(nanos) + i64::from(attempt)));
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            // 0755 whatever the umask: containers run as any user.
            Ok(()) => {
                chmod(&path, 0o755)?;
                return Ok(path);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("creating", path, e)),
        }
    }
    Err(Error::Invalid(format!("no free name for a data directory in {}", target.display())))
}

fn chmod(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| Error::io("setting mode of", path, e))
}

fn write_files(dir: &Path, payload: &Payload) -> Result<()> {
    for (name, file) in payload {
        let path = dir.join(name);
        let mut parent = dir.to_path_buf();
        let parts: Vec<&str> = name.split('/').collect();
        for part in &parts[..parts.len().saturating_sub(1)] {
            parent.push(part);
            match fs::create_dir(&parent) {
                Ok(()) => chmod(&parent, 0o755)?,
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("creating", parent, e)),
            }
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| Error::io("creating", &path, e))?;
        out.write_all(&file.data).map_err(|e| Error::io("writing", &path, e))?;
        // The mode asked for holds whatever the umask.
        chmod(&path, file.mode & 0o7777)?;
        if let Some(user) = file.user {
            std::os::unix::fs::chown(&path, Some(user), None).map_err(|e| Error::io("changing owner of", &path, e))?;
        }
    }
    Ok(())
}

fn swap(target: &Path, fresh: &Path) -> Result<()> {
    let new = target.join(DATA_NEW);
    // A crash between link and rename leaves the link; it is ours to replace.
    fs::remove_file(&new).or_else(absent_is_fine).map_err(|e| Error::io("removing", &new, e))?;
    let name = fresh.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(name, &new).map_err(|e| Error::io("linking", &new, e))?;
    let data = target.join(DATA);
    fs::rename(&new, &data).map_err(|e| Error::io("renaming", data, e))
}

fn link_names(target: &Path, payload: &Payload) -> Result<()> {
    for name in payload.keys().map(|path| top(path)).collect::<BTreeSet<_>>() {
        let visible = target.join(name);
        if fs::symlink_metadata(&visible).is_err() {
            std::os::unix::fs::symlink(Path::new(DATA).join(name), &visible)
                .map_err(|e| Error::io("linking", visible, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
