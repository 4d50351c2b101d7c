//! Fuzzing: each target of the folder `fuzz` for a while.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

const HELP: &str = "usage: cargo xtask fuzz [--seconds N] [TARGET…]
  runs each target of the folder `fuzz` (all when none is named) for N seconds, 60 by default.
  It needs cargo-fuzz (`cargo install cargo-fuzz`) and a C++ compiler, for libFuzzer. A nightly toolchain is not needed: the flags that stable
  refuses are allowed by RUSTC_BOOTSTRAP=1; sanitizers are left off, since nothing of what is fuzzed is unsafe.";

/// Runs the command.
///
/// # Errors
/// A word that is no option or target, a missing tool, or a target that found something.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let mut seconds = 60_u32;
    let mut wanted = Vec::new();
    let mut args = args.iter();
    while let Some(word) = args.next() {
        match word.as_str() {
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            "--seconds" => seconds = args.next().context("--seconds needs a number")?.parse().context("--seconds")?,
            option if option.starts_with('-') => bail!("unknown option {option:?}\n{HELP}"),
            target => wanted.push(target.to_owned()),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let all = targets(&root)?;
    if let Some(unknown) = wanted.iter().find(|w| !all.contains(w)) {
        bail!("no target {unknown:?}; there are {}", all.join(", "));
    }
    let chosen = if wanted.is_empty() { all } else { wanted };
    let there = Command::new("cargo").args(["fuzz", "--version"]).output();
    if !there.is_ok_and(|o| o.status.success()) {
        bail!("cargo-fuzz is not installed: cargo install cargo-fuzz");
    }
    let mut failed = Vec::new();
    for target in &chosen {
        println!("fuzz {target} for {seconds} s");
        let status = Command::new("cargo")
            .current_dir(&root)
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["fuzz", "run", "--sanitizer", "none", target, "--"])
            .args([format!("-max_total_time={seconds}"), "-rss_limit_mb=2048".into(), "-timeout=10".into()])
            .arg("-print_final_stats=1")
            .status()
            .context("start cargo fuzz")?;
        if !status.success() {
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("found by {}: see fuzz/artifacts", failed.join(", ")) }
}

fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|e| Some(e.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}
