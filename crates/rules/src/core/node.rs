//! Node.

use crate::resources::round_up_milli;
use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

/// A node that names no allocatable resources offers its whole capacity.
fn default(body: &mut Tree) {
    if let Some(status) = body.child("status") {
        if !status.has("allocatable")
            && let Some(capacity) = status.get("capacity").cloned()
        {
            status.insert("allocatable".into(), capacity);
        }
        round_up_milli(status.child("capacity"));
        round_up_milli(status.child("allocatable"));
    }
}
