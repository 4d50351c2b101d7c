//! The group `batch`.

mod cron_job;
mod job;

use registry::KindRow;

/// The API group.
const GROUP: &str = "batch";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![cron_job::row(), job::row()]
}
