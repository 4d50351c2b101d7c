//! Pods and containers: a thin runtime of our own.
//!
//! Two halves share this crate. [`Runtime`] lives in the async daemon and implements `node-api`'s `RuntimeService`;
//! it decides (who is the user, which mounts, which capabilities) and writes a finished [`spec::Spec`].
//! [`supervisor`] is a process per pod, started by exec and never forked from the daemon; it only carries out specs:
//! it owns the pod's namespaces, is the parent of its containers, writes their logs and keeps their exit codes.
//!
//! They meet in the pod's directory and over a socket in it ([`proto`]). Directories, a lock held for the
//! supervisor's life and atomic renames are the whole state, so a daemon that starts again finds everything:
//!
//! ```text
//! <root>/netns/<pod>                    pinned network namespace
//! <root>/seccomp/<hash>                 compiled filters
//! <root>/pods/<pod>/sandbox.json        configuration (daemon)
//!                   lock, sock          supervisor is alive; how to reach it
//!                   state.json          addresses, stopped or not (daemon)
//!                   resolv.conf, hostname, shm/
//!                   containers/<id>/container.json   configuration (daemon)
//!                                   spec.json        what to run (daemon)
//!                                   state.json       started, ended, exit code (supervisor)
//!                                   upper/ work/ rootfs/
//! ```
//!
//! Architecture invariants: the supervisor's half uses no async runtime and no threads; mounts of a container exist
//! only in its own mount namespace; nothing assumes the node's PID namespace.

pub mod proto;
pub mod spec;
pub mod supervisor;

mod daemon;
mod seccomp;

pub use daemon::{Options, Runtime};
