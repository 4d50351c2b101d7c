//! Whether the stripped binary is within its budget.

use anyhow::{Context, bail};

/// DESIGN's budget, in bytes.
const BUDGET: u64 = 30 * 1024 * 1024;

/// Compares a binary's size with the budget.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let path = arguments.first().context("usage: cargo xtask size BINARY")?;
    let size = std::fs::metadata(path).with_context(|| format!("stat {path}"))?.len();
    println!("{:.1} MiB of {} MiB", size as f64 / 1_048_576.0, BUDGET / 1_048_576);
    if size > BUDGET {
        bail!("the binary outgrew its budget");
    }
    Ok(())
}
