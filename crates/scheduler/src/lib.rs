//! The scheduling framework, its queue and plugins.
//!
//! One task takes pods from the [`queue`], decides under the [`cache`]'s lock without waiting (filter, score,
//! assume) and hands the pod to a binding task; so decisions are serial and bindings parallel, as upstream. A pod
//! that fits nowhere waits until an event that one of the rejecting plugins asked for; nothing is retried
//! without a reason.

mod cache;
mod command;
mod cycle;
mod events;
mod framework;
mod handlers;
mod node_info;
mod plugins;
mod pod_info;
mod queue;
mod resources;
mod scheduler;

pub use command::main;
pub use framework::{Code, CycleState, Plugin, Points, PreFilter, Status};
pub use plugins::default_plugins;
pub use scheduler::{Options, run};
