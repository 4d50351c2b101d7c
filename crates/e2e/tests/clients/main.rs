//! Real clients against a real cluster: Python, JavaScript, Rust, kubectl. Each of their cases is counted.
//!
//! Needs root and `CORTEN_BIN`; `cargo xtask test` builds the binary, has `.ci/clients` fetch the clients, and names both.

mod report;
mod script;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use e2e::{Cluster, image};

use crate::report::Report;

/// The image that the clients' pods run: a shell, tar, and a web server.
const IMAGE: &str = "clients.test/tools:1";

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
    if ["python", "node", "rust", "kubectl"].iter().any(|group| report.wants(group)) {
        let cluster = Cluster::up(&binary, &format!("e2e-clients-{}", std::process::id()), 1)?;
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
