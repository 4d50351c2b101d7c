//! Pod.

use crate::Rules;

/// Rules of the kind.
pub const RULES: Rules = Rules { default: super::pod_defaults::pod, ..Rules::NONE };
