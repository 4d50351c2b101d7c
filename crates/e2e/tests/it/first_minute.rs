//! What the README promises for the first minute: `up --demo`, `status`, what goes wrong, and Ctrl-C.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::machine;
use local::{ClusterState, Layout};

fn corten(binary: &Path, words: &[&str]) -> Result<Output> {
    Command::new(binary).args(words).stdin(Stdio::null()).output().context("start corten")
}

/// A command that must fail, and what it says.
fn refused(binary: &Path, words: &[&str]) -> Result<String> {
    let output = corten(binary, words)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{words:?} succeeded: {said}");
    Ok(said)
}

/// Reads what `up` says until it has said a text.
fn read_until(child: &mut Child, text: &str) -> Result<String> {
    let mut said = String::new();
    let errors = child.stderr.as_mut().context("no pipe from corten up")?;
    let mut lines = BufReader::new(errors);
    while lines.read_line(&mut said).context("read the progress")? > 0 {
        if said.contains(text) {
            return Ok(said);
        }
    }
    anyhow::bail!("corten up ended: {said}")
}

fn while_it_runs(binary: &Path, name: &str, data: &str, child: &mut Child) -> Result<ClusterState> {
    let said = read_until(child, "Ctrl-C ends it.")?;
    ensure!(said.matches("/ answers: hello from web-").count() == 3, "from the host: {said}");
    ensure!(said.matches("from a pod: http://web.default.svc.cluster.local/").count() == 3, "from a pod: {said}");
    let layout = Layout::new(name, data.into());
    let state = ClusterState::load(&layout).context("load the state")?.context("there is no state")?;

    let status = corten(binary, &["status", "--json"])?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).context("parse the status")?;
    let ours = status.as_array().and_then(|all| all.iter().find(|c| c["name"] == name)).context("no status")?;
    ensure!(ours["controlPlane"] == "running" && ours["nodes"][0]["ready"] == true, "status: {ours}");

    let second = corten(binary, &["up", "--detach", "--name", name, "--data-dir", data])?;
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(second.status.success() && said.contains("runs already"), "a second up: {said}");
    let said = refused(binary, &["up", "--detach", "--name", name, "--data-dir", "/nowhere"])?;
    ensure!(said.contains("runs already, with its data in"), "another folder: {said}");
    Ok(state)
}

fn mistakes(binary: &Path) -> Result<()> {
    let said = refused(binary, &["up", "--nodez", "3"])?;
    ensure!(said.contains("--nodez") && said.contains("--nodes"), "a wrong flag: {said}");
    let said = refused(binary, &["up", "--name", "Not_A_Name"])?;
    ensure!(said.contains("Not_A_Name"), "a wrong name: {said}");
    let down = corten(binary, &["down", "--name", "e2e-unknown"])?;
    let said = String::from_utf8_lossy(&down.stderr).into_owned();
    ensure!(down.status.success() && said.contains("does not run"), "down of an unknown cluster: {said}");
    for component in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "etcd"] {
        let said = refused(binary, &[component, "--no-such-flag"])?;
        ensure!(said.contains("no-such-flag"), "{component}: {said}");
        let help = corten(binary, &[component, "--help"])?;
        ensure!(help.status.success(), "{component} --help failed");
        if component != "etcd" {
            let version = corten(binary, &[component, "--version"])?;
            ensure!(version.stdout.starts_with(b"Kubernetes v1.36"), "{component} --version: {version:?}");
        }
    }
    Ok(())
}

fn start(binary: &Path, words: &[&str]) -> Child {
    let mut command = Command::new(binary);
    command.args(words).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start corten up")
}

fn interrupt(child: &mut Child) -> ExitStatus {
    let pid = rustix::process::Pid::from_child(child);
    // Gone already is what the end will show.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    child.wait().expect("wait for corten up")
}

/// Ctrl-C before the node is ready.
#[test]
fn a_start_that_is_interrupted_leaves_nothing() {
    let (true, Some(binary)) = (rustix::process::geteuid().is_root(), e2e::binary()) else {
        eprintln!("skipped: starting a cluster needs root and CORTEN_BIN, which `cargo xtask test` sets");
        return;
    };
    let dir = tempfile::Builder::new().prefix("corten-e2e-").tempdir().expect("a folder");
    let data = dir.path().join("data");
    let name = format!("e2e-cut-{}", std::process::id());
    let mut child = start(&binary, &["up", "--name", &name, "--data-dir", &data.display().to_string()]);
    let said = read_until(&mut child, "network: ").expect("begin");
    let state = ClusterState::load(&Layout::new(&name, data)).expect("load the state").expect("a state");
    let end = interrupt(&mut child);
    let left = machine::traces(&state).expect("look at the machine");
    let left: Vec<String> = left.into_iter().filter(|line| !line.starts_with("folder ")).collect();
    assert!(left.is_empty(), "{end} after {said}; left behind:\n{}", left.join("\n"));
    assert!(!end.success(), "an interrupted start succeeded");
}

#[test]
fn the_demonstration_ends_with_ctrl_c_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: starting a cluster needs root");
        return;
    }
    let Some(binary) = e2e::binary() else {
        eprintln!("skipped: CORTEN_BIN is not set; `cargo xtask test` builds the binary and sets it");
        return;
    };
    mistakes(&binary).expect("be told of mistakes");
    let dir = tempfile::Builder::new().prefix("corten-e2e-").tempdir().expect("a folder");
    let data = dir.path().join("data").display().to_string();
    let name = format!("e2e-demo-{}", std::process::id());
    let mut child = start(&binary, &["up", "--demo", "--name", &name, "--data-dir", &data]);
    let worked = while_it_runs(&binary, &name, &data, &mut child);
    let end = interrupt(&mut child);
    let left = worked.as_ref().ok().map(|state| machine::traces(state).expect("look at the machine"));
    let purged = corten(&binary, &["down", "--purge", "--name", &name, "--data-dir", &data]).expect("purge");
    worked.expect("the demonstration");
    assert!(end.success(), "Ctrl-C gives {end}");
    assert!(purged.status.success(), "{purged:?}");
    // The data is kept, as it says.
    let left: Vec<String> = left.into_iter().flatten().filter(|line| !line.starts_with("folder ")).collect();
    assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    assert!(!dir.path().join("data").exists(), "the data was not purged");
}
