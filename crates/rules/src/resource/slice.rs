//! ResourceSlice.

use crate::Rules;

/// Rules of the kind. A taint's `timeAdded` is set by the pipeline's strategy, which has the clock.
pub const RULES: Rules = Rules::NONE;
