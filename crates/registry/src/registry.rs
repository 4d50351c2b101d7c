//! All kinds' storage in one place.

/// The storage of every kind, by group and resource; rows may come and go while it runs (custom resources).
#[derive(Default)]
pub struct Registry {}
