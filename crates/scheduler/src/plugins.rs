//! The plugins and their default order and weights.

mod default_binder;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod scheduling_gates;
mod taint_toleration;

use std::sync::Arc;

use crate::framework::Plugin;

/// A plugin and the weight of its score.
pub struct Weighted {
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// The factor of its score.
    pub weight: i64,
}

/// Upstream's default profile, as far as its plugins are here.
pub fn default_plugins() -> Vec<Weighted> {
    let plugin = |plugin: Arc<dyn Plugin>, weight| Weighted { plugin, weight };
    vec![
        plugin(Arc::new(scheduling_gates::SchedulingGates), 0),
        plugin(Arc::new(node_unschedulable::NodeUnschedulable), 0),
        plugin(Arc::new(node_name::NodeName), 0),
        plugin(Arc::new(taint_toleration::TaintToleration), 3),
        plugin(Arc::new(node_affinity::NodeAffinity), 2),
        plugin(Arc::new(node_ports::NodePorts), 0),
        plugin(Arc::new(node_resources::Fit), 1),
        plugin(Arc::new(node_resources::BalancedAllocation), 1),
        plugin(Arc::new(default_binder::DefaultBinder), 0),
    ]
}
