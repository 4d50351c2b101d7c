//! Control groups: v1, hybrid (v1 controllers and an empty v2) and v2 behind one [`Group`].
//!
//! A group is a path relative to every hierarchy's mount point; what a hierarchy lacks is left out. Where v2 is
//! mounted, even without controllers, killing and the news that a group became empty go through it. A process joins
//! v1 groups by writing `0` to `tasks` *itself* while it has one thread: that takes microseconds, where writing
//! another process' id to `cgroup.procs` waits for an RCU grace period (10 ms each).

mod bpf;
mod detect;
mod group;
mod limits;
mod stats;
#[cfg(test)]
mod tests;

pub use detect::{Hierarchies, Mode, V1Hierarchy};
pub use group::{Group, Joiner};
pub use limits::{DeviceAccess, Resources, shares_to_weight};
pub use stats::Stats;
