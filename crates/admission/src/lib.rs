//! The admission framework and its plugins.
