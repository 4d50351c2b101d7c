//! One strategy and one table row per built-in kind.
