//! `hostPath`: a path of the node, as it is or made according to its type.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::Plugin;
use crate::k8s::core::Volume;
use crate::{Error, Mounted, Objects, PodContext, Result};

/// See the module.
pub struct HostPath;

#[async_trait]
impl Plugin for HostPath {
    fn name(&self) -> &'static str {
        "kubernetes.io/host-path"
    }

    fn serves(&self, volume: &Volume) -> bool {
        volume.host_path.is_some()
    }

    async fn set_up(&self, _cx: &PodContext, volume: &Volume, _objects: &dyn Objects) -> Result<Mounted> {
        let Some(source) = &volume.host_path else {
            return Err(Error::Invalid("not a hostPath volume".to_owned()));
        };
        check(&source.path, source.type_.as_deref().unwrap_or_default())?;
        Ok(Mounted { path: PathBuf::from(&source.path), ..Mounted::default() })
    }
}

/// Checks a path against its type, and makes what a `...OrCreate` type asks for.
pub fn check(path: &str, kind: &str) -> Result<()> {
    if path.split('/').any(|part| part == "..") {
        return Err(Error::Invalid(format!("invalid HostPath `{path}`: must not contain '..'")));
    }
    let path = Path::new(path);
    let meta = fs::metadata(path).ok();
    let fail =
        |what: &str| Err(Error::Invalid(format!("hostPath type check failed: {} is not {what}", path.display())));
    let found = |test: fn(&fs::FileType) -> bool| meta.as_ref().is_some_and(|m| test(&m.file_type()));
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if meta.is_none() => {
            fs::create_dir_all(path).map_err(|e| Error::io("creating", path, e))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))
                .map_err(|e| Error::io("setting mode of", path, e))
        }
        "DirectoryOrCreate" | "Directory" if found(fs::FileType::is_dir) => Ok(()),
        "DirectoryOrCreate" | "Directory" => fail("a directory"),
        "FileOrCreate" if meta.is_none() => {
            fs::File::create(path).map_err(|e| Error::io("creating", path, e))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644))
                .map_err(|e| Error::io("setting mode of", path, e))
        }
        "FileOrCreate" | "File" if found(fs::FileType::is_file) => Ok(()),
        "FileOrCreate" | "File" => fail("a file"),
        "Socket" if found(fs::FileType::is_socket) => Ok(()),
        "Socket" => fail("a socket file"),
        "CharDevice" if found(fs::FileType::is_char_device) => Ok(()),
        "CharDevice" => fail("a character device"),
        "BlockDevice" if found(fs::FileType::is_block_device) => Ok(()),
        "BlockDevice" => fail("a block device"),
        kind => Err(Error::Invalid(format!("{kind} is an invalid volume type"))),
    }
}
