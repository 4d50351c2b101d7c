//! The node agent: plan and act per pod.
