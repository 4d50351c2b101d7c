//! Clusters on this machine: their addresses, state, processes and namespaces (`corten up`, `down`, `status`).
//!
//! A cluster is a folder, a slot (from which all addresses follow), one control-plane process and, per node, a
//! holder: the first process of the node's namespaces, which keeps the node agent running and outlives it. This
//! crate starts, finds and ends these processes; what runs inside them is wired by the binary.

mod error;
mod holder;
mod layout;
mod network;
mod process;
mod routes;
mod spec;
mod state;

pub use error::{Context, Error, Result};
pub use holder::{enter_node, holder_main};
pub use layout::{Layout, default_data_dir, runtime_dir};
pub use network::{attach, cgroup, lay, remove, remove_cgroups};
pub use process::{Pid, Spawned, spawn};
pub use routes::follow_routes;
pub use spec::{Addresses, ControlPlaneSpec, NodeSpec};
pub use state::{ClusterState, NodeState, claim_slot, list, release_slot};
