//! Defaulting, validation and conversion of built-in kinds.
