//! Chores of the project: tidy, schema, size, conformance.

fn main() {}
