//! All tests in one run, with one line at the end that says how many passed and failed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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

/// Cargo without what `cargo xtask` itself was told about crate xtask: build scripts (ring's) look at these variables, so
/// that they and all above them would be built anew for each change between `cargo xtask test` and plain cargo.
fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the binary for the end-to-end tests. Only the last link is static (the built-in image has no libraries), so
/// everything below it is shared with the tests. It is kept aside: building the tests writes it again, not static.
fn build_binary() -> anyhow::Result<PathBuf> {
    let status = cargo()
        .args(["rustc", "--package", "corten", "--bin", "corten", "--"])
        // Position-independent, unlike the release: the libraries below are, and a program at a fixed address that is
        // linked from them dies in libc's start-up.
        .args(["-C", "target-feature=+crt-static"])
        .status()
        .context("start cargo rustc")?;
    if !status.success() {
        bail!("the binary does not build");
    }
    let here = std::env::current_exe().context("find the target folder")?;
    let profile = here.parent().context("find the target folder")?;
    let kept = profile.join("e2e").join("corten");
    std::fs::create_dir_all(profile.join("e2e")).context("make a folder for the binary")?;
    // Removed first: an old one may be running.
    match std::fs::remove_file(&kept) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("remove the old binary");
        }
        _ => {}
    }
    std::fs::copy(profile.join("corten"), &kept).context("keep the binary")?;
    Ok(kept)
}

/// Has the real clients fetched, beside the building.
fn fetch_clients() -> anyhow::Result<Child> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Command::new("sh").arg(root.join(".ci/clients")).stdin(Stdio::null()).spawn().context("start .ci/clients")
}

/// Builds the client that uses crate kube: a workspace of its own beside crate e2e, so that its features are not the product's.
fn build_kube_client() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("find the project")?;
    let here = std::env::current_exe().context("find the target folder")?;
    let profile = here.parent().context("find the target folder")?;
    let status = cargo()
        .args(["build", "--locked", "--manifest-path"])
        .arg(root.join("crates/e2e/kube/Cargo.toml"))
        .arg("--target-dir")
        .arg(profile.parent().context("find the target folder")?)
        .status()
        .context("start cargo build")?;
    if !status.success() {
        bail!("the client of crate kube does not build");
    }
    Ok(profile.join("kube-client-test"))
}

/// Runs every test of the workspace, or of the packages that the arguments name. Arguments go to cargo.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let names_packages = arguments.iter().any(|a| a.starts_with("-p") || a.starts_with("--package"));
    let clients = !names_packages || arguments.iter().any(|a| a.ends_with("e2e"));
    let fetching = if clients { Some(fetch_clients()?) } else { None };
    let binary = build_binary()?;
    let kube_client = if clients { Some(build_kube_client()?) } else { None };
    if let Some(mut fetching) = fetching {
        // What it could not fetch, the tests that need it say.
        fetching.wait().context("wait for .ci/clients")?;
    }
    let mut child = cargo()
        .args(["test", "--no-fail-fast"])
        .args((!names_packages).then_some("--workspace"))
        .env("CORTEN_BIN", binary)
        .envs(kube_client.map(|program| ("CORTEN_KUBE_CLIENT", program)))
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
