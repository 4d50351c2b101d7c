//! Real clients against a real cluster: Python, JavaScript, Rust, kubectl. Each of their cases is counted.
//!
//! Needs root and `CORTEN_BIN`; `cargo xtask test` builds the binary, has `.ci/clients` fetch the clients, and names both.

mod autoscaling;
mod extension;
mod hooks;
mod kubectl;
mod report;
mod script;
mod webhooks;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Cluster, image};

use crate::report::Report;

/// The image that the clients' pods run: a shell, tar, and a web server.
const IMAGE: &str = "clients.test/tools:1";

/// The administrator's token where there is one.
const TOKEN: &str = "administrator";
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the image from this machine's busybox.
fn tools() -> Result<Option<image::Recipe>> {
    let Some(program) = image::find("busybox") else { return Ok(None) };
    let bytes = std::fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let mut recipe = image::Recipe::new(&["/bin/sh", "-c", "echo started; exec busybox httpd -f -p 80 -h /www"]);
    for name in ["busybox", "cat", "echo", "sh", "tar", "true"] {
        recipe = recipe.file(&format!("bin/{name}"), &bytes, 0o755)?;
    }
    recipe.folder("tmp")?.file("www/index.html", b"<h1>Welcome to nginx!</h1>\n", 0o644).map(Some)
}

/// Runs a script of a client in a cluster.
fn client(report: &Report, group: &str, cluster: &Cluster, command: Result<Option<Command>>) {
    if !report.wants(group) {
        return;
    }
    match command {
        Ok(None) => report.skip(group, "the package registry gave no client, or its interpreter is not installed"),
        Ok(Some(mut command)) => {
            command.env("KUBECONFIG", cluster.kubeconfig());
            if let Err(error) = script::run(report, group, command) {
                report.note(group, Err(error));
            }
        }
        Err(error) => report.note(group, Err(error)),
    }
}

fn python() -> Result<Option<Command>> {
    Ok(script::python().map(|mut command| {
        command.arg(script::source("python.py")).arg(IMAGE);
        command
    }))
}

fn node() -> Result<Option<Command>> {
    let command = script::node("javascript.mjs")?;
    Ok(command.map(|mut command| {
        command.arg(IMAGE);
        command
    }))
}

/// The program that `cargo xtask test` has built of crate kube.
fn rust() -> Result<Option<Command>> {
    let program = std::env::var_os("CORTEN_KUBE_CLIENT").map(PathBuf::from).filter(|program| program.is_file());
    Ok(program.map(|program| {
        let mut command = Command::new(program);
        command.arg(IMAGE);
        command
    }))
}

fn with_kubectl(program: Option<PathBuf>, more: &[&str]) -> Result<Option<Command>> {
    Ok(program.map(|program| {
        let mut command = Command::new("bash");
        command.arg(script::source("kubectl.sh")).arg(program).arg(IMAGE).args(more);
        command
    }))
}

/// A script that starts API servers of its own.
fn with_servers(report: &Report, group: &str, binary: &Path, command: Result<Option<Command>>) {
    if !report.wants(group) {
        return;
    }
    let dir = match tempfile::Builder::new().prefix("corten-servers-").tempdir() {
        Ok(dir) => dir,
        Err(error) => return report.note(group, Err(error.into())),
    };
    let started = command.and_then(|command| match command {
        None => {
            report.skip(group, "the package registry gave no client, or a tool is not installed");
            Ok(())
        }
        Some(mut command) => {
            command.arg(binary).arg(dir.path()).arg(TOKEN);
            script::run(report, group, command)
        }
    });
    if let Err(error) = started {
        report.note(group, Err(error));
    }
}

/// A real etcd as the store.
fn etcd() -> Result<Option<Command>> {
    let (Some(mut python), Some(etcd), Some(etcdctl)) =
        (script::python(), script::tool("etcd"), script::tool("etcdctl"))
    else {
        return Ok(None);
    };
    python.arg(script::source("etcd.py")).arg(etcd).arg(etcdctl);
    Ok(Some(python))
}

/// A real OpenID provider.
fn oidc() -> Result<Option<Command>> {
    let Some(kubectl) = e2e::kubectl() else { return Ok(None) };
    Ok(script::node("oidc.mjs")?.map(|mut node| {
        node.arg(kubectl);
        node
    }))
}

/// The clients that share a cluster, each in a namespace of its own.
fn in_a_cluster(report: &Report, cluster: &Cluster) -> Result<()> {
    let archive = cluster.data_dir().join("tools.tar");
    let Some(recipe) = tools()? else {
        report.skip("clients", "busybox-static is not installed");
        return Ok(());
    };
    recipe.docker_archive(&archive, &[IMAGE])?;
    cluster.corten(&["image", "import", &archive.to_string_lossy()])?;
    client(report, "python", cluster, python());
    client(report, "node", cluster, node());
    client(report, "rust", cluster, rust());
    client(report, "kubectl", cluster, with_kubectl(e2e::kubectl(), &[]));
    client(report, "kubectl-1.20", cluster, with_kubectl(script::tool("kubectl-1.20"), &["old"]));
    Ok(())
}

fn run(report: &Report) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        report.skip("clients", "starting a cluster needs root");
        return Ok(());
    }
    let Some(binary) = e2e::binary() else {
        report.skip("clients", "CORTEN_BIN is not set; `cargo xtask test` builds the binary and sets it");
        return Ok(());
    };
    // Two at a time: those that start API servers of their own beside those that share a cluster.
    std::thread::scope(|lanes| {
        let alone = lanes.spawn(|| servers(report, &binary));
        let shared = clients(report, &binary);
        match alone.join() {
            Ok(alone) => shared.and(alone),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What starts API servers of its own.
fn servers(report: &Report, binary: &Path) -> Result<()> {
    with_servers(report, "etcd", binary, etcd());
    with_servers(report, "oidc", binary, oidc());
    if report.wants("webhooks") {
        let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
        runtime.block_on(webhooks::run(report, binary))?;
    }
    if report.wants("autoscaling") {
        let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
        runtime.block_on(autoscaling::run(report, binary))?;
    }
    Ok(())
}

/// What shares a cluster.
fn clients(report: &Report, binary: &Path) -> Result<()> {
    if ["python", "node", "rust", "kubectl", "kubectl-1.20"].iter().any(|group| report.wants(group)) {
        let cluster = Cluster::up(binary, &format!("e2e-clients-{}", std::process::id()), 1)?;
        let worked = in_a_cluster(report, &cluster);
        let ended = cluster.down();
        worked.and(ended)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let report = Report::new(std::env::args().skip(1));
    if let Err(error) = run(&report) {
        report.note("clients", Err(error));
    }
    if report.end() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
