//! Event.

use crate::Rules;

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules::NONE;
