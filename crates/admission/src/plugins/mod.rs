//! The plugins, one file each or one per family; the table is in `chain`.

pub mod always;
pub mod certificates;
pub mod event_rate_limit;
pub mod external_ips;
pub mod image_policy;
pub mod ingress_class;
pub mod limit_ranger;
pub mod namespace_exists;
pub mod namespace_lifecycle;
pub mod node_features;
pub mod node_restriction;
pub mod node_selector;
pub mod owner_references;
pub mod pod_groups;
pub mod pod_rules;
pub mod pod_security;
pub mod priority;
pub mod quota;
mod quota_limits;
pub mod runtime_class;
pub mod service_account;
pub mod storage;
pub mod taint_nodes;
pub mod tolerations;

#[cfg(test)]
mod tests;
