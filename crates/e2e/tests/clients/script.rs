//! Clients in other languages: programs that print one line per case.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::report::Report;

/// The root of the project.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    here.canonicalize().unwrap_or(here)
}

/// A file among the clients' scripts.
pub fn source(name: &str) -> PathBuf {
    root().join("crates/e2e/clients").join(name)
}

/// A program that `.ci/clients` has fetched; else one on PATH.
pub fn tool(name: &str) -> Option<PathBuf> {
    let kept = root().join("target/tools").join(name);
    if kept.is_file() { Some(kept) } else { e2e::image::find(name) }
}

/// Python with the client in it, as `.ci/clients` has made it.
pub fn python() -> Option<Command> {
    let home = root().join("target/clients/python");
    home.join("requirements.txt").is_file().then(|| {
        let mut command = Command::new(home.join("bin/python"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    })
}

/// Node, in a folder from which a script finds the modules that `.ci/clients` has fetched: Node looks for them from the
/// script's own place upwards, so the script is copied there.
pub fn node(script: &str) -> Result<Option<Command>> {
    let home = root().join("target/clients/node");
    if !home.join("package.json.done").is_file() || !node_is_new_enough() {
        return Ok(None);
    }
    for name in [script, "check.mjs"] {
        std::fs::copy(source(name), home.join(name)).with_context(|| format!("copy {name}"))?;
    }
    let mut command = Command::new("node");
    command.arg(home.join(script)).env("NODE_NO_WARNINGS", "1");
    Ok(Some(command))
}

/// The oldest Node that the modules run on.
const OLDEST_NODE: u32 = 20;

fn node_is_new_enough() -> bool {
    let output = Command::new("node").arg("--version").output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let major = said.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= OLDEST_NODE)
}

/// Runs a program and notes the cases that it tells of.
///
/// # Errors
/// It does not start, or it ends with a failure that none of its lines told.
pub fn run(report: &Report, group: &str, mut command: Command) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let output = child.stdout.take().context("no pipe")?;
    let mut errors = child.stderr.take().context("no pipe")?;
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        // What cannot be read is only missing in the message.
        let _ = errors.read_to_string(&mut said);
        said
    });
    let mut told = false;
    for line in BufReader::new(output).lines() {
        let line = line.context("read the cases")?;
        if let Some(name) = line.strip_prefix("ok ") {
            report.note(&format!("{group}::{name}"), Ok(()));
        } else if let Some((name, why)) = line.strip_prefix("not ok ").and_then(|rest| rest.split_once(": ")) {
            told = true;
            report.note(&format!("{group}::{name}"), Err(anyhow!("{why}")));
        } else if let Some((name, why)) = line.strip_prefix("skip ").and_then(|rest| rest.split_once(": ")) {
            report.skip(&format!("{group}::{name}"), why);
        }
    }
    let status = child.wait().context("wait for its end")?;
    let said = said.join().unwrap_or_default();
    if told {
        eprintln!("{said}");
    } else if !status.success() {
        bail!("{group} ended with {status}: {said}");
    }
    Ok(())
}
