//! System calls behind safe functions: the one room with `unsafe`, each block with its reason.
//!
//! `rustix` covers most of Linux safely and is used directly by other rooms too; what is here is what it lacks
//! (`clone3`, `mount_setattr`, seccomp, exec), what needs care to be used rightly (capabilities, entering
//! namespaces, paths inside a foreign root), and cgroups.

pub mod caps;
pub mod cgroup;
pub mod devices;
mod error;
pub mod fdpass;
pub mod fs;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod process;
pub mod pty;
pub mod seccomp;
pub mod sysctl;
pub mod user;

pub use error::{Context, Error, Result};
