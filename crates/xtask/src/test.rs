//! All tests in one run, with one line at the end that says how many passed and failed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

#[derive(Default)]
struct Sum {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
}

impl Sum {
    /// Takes in a line of cargo's output.
    fn read(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let number = |word: &str| {
                let before = rest.split(word).next()?;
                before.trim().rsplit([' ', '.', ';']).next()?.parse::<u64>().ok()
            };
            self.passed += number(" passed").unwrap_or(0);
            self.failed += number(" failed").unwrap_or(0);
        } else if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
    }
}

/// Runs every test of the workspace. Arguments go to cargo.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let mut child = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    let output = child.stdout.take().context("no pipe from cargo test")?;
    let mut sum = Sum::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        sum.read(&line);
        println!("{line}");
    }
    let status = child.wait().context("wait for cargo test")?;
    for failure in &sum.failures {
        println!("FAILED {failure}");
    }
    if !status.success() && sum.failed == 0 {
        // It did not compile, or a test process died: that counts.
        sum.failed = 1;
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed > 0 || sum.passed == 0 {
        bail!("tests failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Sum;

    #[test]
    fn sums_result_lines() {
        let mut sum = Sum::default();
        sum.read("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        sum.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        sum.read("test a::b ... FAILED");
        assert_eq!((sum.passed, sum.failed, sum.failures.len()), (15, 2, 1));
    }
}
