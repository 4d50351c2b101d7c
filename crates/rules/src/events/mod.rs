//! The group `events.k8s.io`: the same objects as core events, under other field names.

pub mod convert;
