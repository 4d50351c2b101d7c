//! Feature gates with upstream's names and defaults.
