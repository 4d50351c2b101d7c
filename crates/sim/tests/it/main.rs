//! A few seeds, and that a seed is a function.

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().expect("the command runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_seed_has_one_trace() {
    let (one, two) = (sim(&["--seed", "7"]), sim(&["--seed", "7"]));
    let line = |output: &Output| text(output).lines().next().map(str::to_owned);
    assert!(line(&one).is_some_and(|line| line.contains("hash")), "{}", text(&one));
    assert_eq!(line(&one), line(&two));
}

#[test]
fn some_seeds_pass() {
    let output = sim(&["--seeds", "25"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).ends_with("25 seeds, 0 failed\n"), "{}", text(&output));
}
