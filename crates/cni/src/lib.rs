//! The CNI specification's runtime side and every plugin.
