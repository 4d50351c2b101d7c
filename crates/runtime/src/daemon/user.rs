//! Who a container runs as: numbers from the configuration and the image, names looked up in the image's own passwd
//! and group files, which are read from its layers without mounting them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use node_api::{ContainerSecurityContext, ContainerUser, Error, Result, SupplementalGroupsPolicy};
use rustix::fs::OFlags;

/// Larger files are no passwd files.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A resolved user.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// All groups, the main one first.
    pub(super) groups: Vec<u32>,
    /// `HOME`.
    pub(super) home: String,
}

impl Resolved {
    pub(super) fn to_status(&self) -> ContainerUser {
        ContainerUser {
            uid: self.uid.into(),
            gid: self.gid.into(),
            supplemental_groups: self.groups.iter().map(|g| i64::from(*g)).collect(),
        }
    }
}

/// Resolves the user. `image_user` is the image's `user[:group]`.
///
/// # Errors
/// Names that the image does not know, ids that are none.
pub(super) fn resolve(layers: &[PathBuf], security: &ContainerSecurityContext, image_user: &str) -> Result<Resolved> {
    let passwd = read_from_layers(layers, "etc/passwd");
    let group = read_from_layers(layers, "etc/group");
    resolve_in(&passwd, &group, security, image_user)
}

fn resolve_in(passwd: &str, group: &str, security: &ContainerSecurityContext, image_user: &str) -> Result<Resolved> {
    let (user, mut wanted_group) = match (security.run_as_user, security.run_as_username.as_str()) {
        (Some(uid), _) => (uid.to_string(), None),
        (None, "") => match image_user.split_once(':') {
            Some((user, group)) => (user.to_owned(), Some(group.to_owned())),
            None => (image_user.to_owned(), None),
        },
        (None, name) => (name.to_owned(), None),
    };
    if let Some(gid) = security.run_as_group {
        wanted_group = Some(gid.to_string());
    }
    let user = if user.is_empty() { "0".to_owned() } else { user };
    let entry = match user.parse::<u32>() {
        Ok(uid) => {
            let found = sys::user::passwd(passwd).find(|p| p.uid == uid);
            found.unwrap_or(sys::user::Passwd { name: String::new(), uid, gid: 0, home: "/".to_owned() })
        }
        Err(_) => sys::user::passwd(passwd)
            .find(|p| p.name == user)
            .ok_or_else(|| Error::Container { context: format!("no users found for user {user:?}"), source: None })?,
    };
    let gid = match wanted_group.as_deref() {
        None | Some("") => entry.gid,
        Some(text) => match text.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => sys::user::group(group)
                .find(|g| g.name == text)
                .map(|g| g.gid)
                .ok_or_else(|| Error::Container { context: format!("no groups found for {text:?}"), source: None })?,
        },
    };
    let mut groups = vec![gid];
    if security.supplemental_groups_policy == SupplementalGroupsPolicy::Merge && !entry.name.is_empty() {
        let member = |g: &sys::user::Group| g.members.contains(&entry.name);
        groups.extend(sys::user::group(group).filter(member).map(|g| g.gid));
    }
    for gid in &security.supplemental_groups {
        groups.push(u32::try_from(*gid).map_err(|_| Error::InvalidArgument(format!("group id {gid} is no id")))?);
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|g| seen.insert(*g));
    let home = if entry.home.is_empty() { "/".to_owned() } else { entry.home };
    Ok(Resolved { uid: entry.uid, gid, groups, home })
}

/// A file as the overlay of `layers` (lowest first) would show it; empty where there is none.
fn read_from_layers(layers: &[PathBuf], file: &str) -> String {
    for layer in layers.iter().rev() {
        if let Ok(root) = sys::fs::open_dir(layer) {
            match sys::fs::open_in_root(&root, Path::new(file), OFlags::RDONLY | OFlags::NONBLOCK) {
                Ok(fd) => return read_limited(std::fs::File::from(fd)),
                Err(error) if error.is_not_found() => {}
                Err(_) => return String::new(),
            }
        }
        if hides(layer, file) {
            break;
        }
    }
    String::new()
}

fn read_limited(file: std::fs::File) -> String {
    use std::io::Read;
    match file.metadata() {
        Ok(meta) if meta.is_file() && meta.len() <= MAX_FILE_BYTES => {}
        _ => return String::new(), // a whiteout is a character device
    }
    let mut bytes = Vec::new();
    match file.take(MAX_FILE_BYTES).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// Whether a layer hides what lies below it at `file`: a whiteout of a directory above, or an opaque one.
fn hides(layer: &Path, file: &str) -> bool {
    let mut path = layer.to_owned();
    for part in Path::new(file) {
        path.push(part);
        let Ok(meta) = std::fs::symlink_metadata(&path) else { return false };
        if meta.file_type().is_char_device() && meta.rdev() == 0 {
            return true;
        }
        let mut value = [0u8; 2];
        let opaque = rustix::fs::lgetxattr(&path, "trusted.overlay.opaque", &mut value[..]);
        if opaque == Ok(1) && value[0] == b'y' {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:r:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\napp:x:1000:\nextra:x:50000:app\n";

    #[test]
    fn users() {
        let security = |user: Option<i64>, group: Option<i64>, name: &str| ContainerSecurityContext {
            run_as_user: user,
            run_as_group: group,
            run_as_username: name.to_owned(),
            supplemental_groups: vec![60000],
            ..Default::default()
        };
        type Expected = (u32, u32, &'static [u32], &'static str);
        let cases: &[(ContainerSecurityContext, &str, Expected)] = &[
            (security(None, None, ""), "", (0, 0, &[0, 60000], "/root")),
            (security(None, None, ""), "app", (1000, 1000, &[1000, 50000, 60000], "/home/app")),
            (security(None, None, ""), "1000:extra", (1000, 50000, &[50000, 60000], "/home/app")),
            (security(Some(5), None, ""), "app", (5, 0, &[0, 60000], "/")),
            (security(Some(1000), Some(7), ""), "", (1000, 7, &[7, 50000, 60000], "/home/app")),
            (security(None, None, "app"), "", (1000, 1000, &[1000, 50000, 60000], "/home/app")),
        ];
        for (security, image, (uid, gid, groups, home)) in cases {
            let got = resolve_in(PASSWD, GROUP, security, image).unwrap();
            assert_eq!((got.uid, got.gid, got.groups.as_slice(), got.home.as_str()), (*uid, *gid, *groups, *home));
        }
        let strict = ContainerSecurityContext {
            supplemental_groups_policy: SupplementalGroupsPolicy::Strict,
            ..security(Some(1000), None, "")
        };
        assert_eq!(resolve_in(PASSWD, GROUP, &strict, "").unwrap().groups, [1000, 60000]);
        assert!(resolve_in(PASSWD, GROUP, &security(None, None, ""), "nobody-here").is_err());
    }
}
