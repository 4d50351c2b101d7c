//! The scheduling framework, its queue and plugins.
//!
//! One task takes pods from the queue, decides on a snapshot without waiting (filter, score, assume, reserve) and hands the
//! pod to a binding task; so decisions are serial and bindings parallel, as upstream. A pod that fits nowhere may make room
//! by preemption; then it waits until an event that one of the rejecting plugins asked for. Nothing is retried without a
//! reason. Profiles, plugins and extenders are those of a [`Configuration`].

mod affinity;
mod cache;
mod command;
mod config;
mod cycle;
mod device_classes;
mod events;
mod extender;
mod fit_error;
mod framework;
mod group_cycle;
mod groups;
mod handle;
mod handlers;
mod labels;
mod metrics;
mod node_info;
mod nominator;
mod plugins;
mod pod_info;
mod post_filter;
mod profile;
mod queue;
mod registry;
mod report;
mod resources;
mod scheduler;
mod serve;
mod snapshot;
mod tally;
#[cfg(test)]
mod testing;
mod trial;
mod waiting;

pub use command::main;
pub use config::{Configuration, InvalidConfiguration};
pub use framework::{Code, CycleState, Plugin, Points, PreFilter, Status};
pub use registry::{Row, plugins};
pub use scheduler::{Options, run, start};
pub use trial::Trial;
