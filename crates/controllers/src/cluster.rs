//! Controllers of namespaces, nodes and the rest of the cluster.

pub(crate) mod account_tokens;
pub(crate) mod bootstrap;
pub(crate) mod certificates;
pub(crate) mod device_taints;
pub(crate) mod gc;
pub(crate) mod in_each_namespace;
pub(crate) mod legacy_tokens;
pub(crate) mod namespace;
pub(crate) mod node_ipam;
pub(crate) mod node_lifecycle;
pub(crate) mod pod_gc;
pub(crate) mod pod_group_protection;
pub(crate) mod policy_status;
pub(crate) mod resource_claim;
pub(crate) mod resource_quota;
pub(crate) mod role_aggregation;
pub(crate) mod root_ca;
pub(crate) mod service_account;
pub(crate) mod taint_eviction;
pub(crate) mod ttl;
