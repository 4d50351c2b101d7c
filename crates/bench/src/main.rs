//! Measures DESIGN's budgets.

fn main() {}
