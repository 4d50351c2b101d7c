//! Role and ClusterRole.

use crate::Rules;

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules::NONE;

/// Rules of ClusterRole.
pub const CLUSTER_RULES: Rules = Rules::NONE;
