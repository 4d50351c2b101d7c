//! The group `batch`.

pub mod cron_job;
pub mod job;
pub mod schedule;
