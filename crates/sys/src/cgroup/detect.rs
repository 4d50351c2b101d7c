//! Which hierarchies are mounted where.

use std::path::{Path, PathBuf};

use super::Group;
use crate::mount::mount_table;
use crate::{Context, Error, Result};

/// The controllers of v1 that are used here; the others are left to the node.
const USED: [&str; 8] = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids", "hugetlb"];

/// One mounted v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Hierarchy {
    /// Its controllers among those used here.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
}

/// What kind of machine this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only v1.
    V1,
    /// v1 controllers, and v2 without controllers.
    Hybrid,
    /// v2 with controllers.
    V2,
}

/// All hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// v1 hierarchies in use.
    pub v1: Vec<V1Hierarchy>,
    /// Where v2 is mounted.
    pub v2: Option<PathBuf>,
    /// The controllers v2 has.
    pub v2_controllers: Vec<String>,
}

impl Hierarchies {
    /// Reads them from the mount table.
    ///
    /// # Errors
    /// The table cannot be read, or no hierarchy is mounted at all.
    pub fn detect() -> Result<Self> {
        let mut found = Self { v1: Vec::new(), v2: None, v2_controllers: Vec::new() };
        for mount in mount_table()? {
            match mount.fs_type.as_str() {
                "cgroup2" if found.v2.is_none() => {
                    let path = mount.target.join("cgroup.controllers");
                    let controllers = std::fs::read_to_string(&path).at("read", &path)?;
                    found.v2_controllers = controllers.split_whitespace().map(str::to_owned).collect();
                    found.v2 = Some(mount.target);
                }
                "cgroup" => {
                    let controllers: Vec<String> = mount
                        .super_options
                        .split(',')
                        .filter(|o| USED.contains(o) && !found.has_v1(o))
                        .map(str::to_owned)
                        .collect();
                    if !controllers.is_empty() {
                        found.v1.push(V1Hierarchy { controllers, mount: mount.target });
                    }
                }
                _ => {}
            }
        }
        if found.v1.is_empty() && found.v2.is_none() {
            return Err(Error::invalid("find cgroups", "/proc/self/mountinfo", "no cgroup hierarchy is mounted"));
        }
        if !found.v1.is_empty() {
            // What v1 left over for v2 (hugetlb, perf_event) is not used: delegating it would forbid processes in
            // pods' own groups.
            found.v2_controllers.clear();
        }
        if found.v2.is_some() {
            // Freezing is v2's then.
            found.v1.retain(|h| h.controllers != ["freezer"]);
        }
        Ok(found)
    }

    fn has_v1(&self, controller: &str) -> bool {
        self.v1.iter().any(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// What kind of machine this is.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match (&self.v2, self.v1.is_empty()) {
            (Some(_), true) => Mode::V2,
            (Some(_), false) => Mode::Hybrid,
            (None, _) => Mode::V1,
        }
    }

    /// The group at a path relative to the hierarchies' roots. Nothing is made yet.
    #[must_use]
    pub fn group(&self, path: impl AsRef<Path>) -> Group {
        let path = path.as_ref();
        let relative = path.strip_prefix("/").unwrap_or(path);
        Group::new(self.clone(), relative.to_owned())
    }

    /// The mount point of a v1 controller.
    #[must_use]
    pub fn v1_mount(&self, controller: &str) -> Option<&Path> {
        let hierarchy = self.v1.iter().find(|h| h.controllers.iter().any(|c| c == controller));
        hierarchy.map(|h| h.mount.as_path())
    }

    /// The group of this process, by its path in `hierarchy` (`memory`, ..., or empty for v2), relative to that
    /// hierarchy's root as this process' cgroup namespace has it.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn own_path(&self, hierarchy: &str) -> Result<PathBuf> {
        const PATH: &str = "/proc/self/cgroup";
        let text = std::fs::read_to_string(PATH).at("read", PATH)?;
        let found = text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            controllers.split(',').any(|c| c == hierarchy).then(|| PathBuf::from(path))
        });
        Ok(found.unwrap_or_else(|| PathBuf::from("/")))
    }
}
