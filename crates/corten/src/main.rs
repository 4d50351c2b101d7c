//! One binary, many names: dispatch, wiring and shutdown.

fn main() {}
