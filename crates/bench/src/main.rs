//! Measures DESIGN's budgets.
//!
//! Everything is measured from outside, as a user would: the release binary, the API over TLS, `/proc`. Upstream's
//! components run beside it, one after the other, when `--upstream-bin` names them. Numbers are printed, never asserted.

mod cases;
mod crowd;
mod cycle;
mod fan_out;
mod histogram;
mod kwok;
mod load;
mod node;
mod process;
mod scheduler;
mod start;
mod stats;
mod subject;
mod table;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use subject::Subject;
use table::{Measured, Table};

/// Measures the budgets of DESIGN and prints them as a table.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Options {
    /// The release binary of Corten.
    #[arg(long, env = "CORTEN_BIN", default_value = default_binary())]
    binary: PathBuf,
    /// Folder of upstream's etcd, kube-apiserver, kube-controller-manager and kube-scheduler, to measure them too.
    #[arg(long)]
    upstream_bin: Option<PathBuf>,
    /// Measure only these (see the names in the table); may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Seconds over which idle processes are watched.
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// Pods created through the API.
    #[arg(long, default_value_t = 20_000)]
    pods: usize,
    /// How much of the scheduler's and hollow nodes' cases: 0.1 is a tenth of the nodes and pods.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Namespaces that are made, listed and deleted.
    #[arg(long, default_value_t = 5000)]
    namespaces: usize,
    /// Connections of the load.
    #[arg(long, default_value_t = 32)]
    connections: usize,
}

fn default_binary() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "target/aarch64-unknown-linux-gnu/release/corten",
        _ => "target/x86_64-unknown-linux-gnu/release/corten",
    }
}

impl Options {
    /// Whether any of these is to be measured.
    fn wants(&self, names: &[&str]) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| names.contains(&only.as_str()))
    }

    fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

/// Says on standard error what goes on.
pub(crate) fn note(what: impl std::fmt::Display) {
    eprintln!("bench: {what}");
}

/// Notes a failure and goes on: what else can be measured is worth having.
pub(crate) fn attempt(what: &str, result: Result<()>, failed: &mut bool) {
    if let Err(error) = result {
        note(format!("{what}: {error:#}"));
        *failed = true;
    }
}

/// A measurement that wants a control plane of its own.
struct Case {
    what: &'static str,
    names: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case { what: "fan-out", names: &fan_out::NAMES },
    Case { what: "CRDs", names: &crowd::CRDS },
    Case { what: "policies", names: &crowd::POLICIES },
    Case { what: "namespaces", names: &crowd::NAMESPACES },
];

async fn measure_case(case: &Case, subject: &Subject, options: &Options, measured: &mut Measured) -> Result<()> {
    match case.what {
        "fan-out" => fan_out::measure(subject, options, measured).await,
        "CRDs" => crowd::crds(subject, measured).await,
        "policies" => crowd::policies(subject, options, measured).await,
        _ => crowd::namespaces(subject, options, measured).await,
    }
}

async fn corten(options: &Options, measured: &mut Measured, failed: &mut bool) -> Result<()> {
    let binary = options.binary.canonicalize().with_context(|| format!("find {}", options.binary.display()))?;
    measured.set("size", start::size(&[&binary])?);
    if options.wants(&["api-ready", "node-ready"]) {
        note("corten: start");
        attempt("start", start::corten(&binary, measured), failed);
    }
    let idle = options.wants(&["idle-control-plane", "idle-node", "idle-cpu"]);
    if idle || options.wants(&node::NAMES) {
        let cluster = start::cluster(&binary)?;
        if idle {
            note("corten: idle");
            attempt("idle", process::idle_cluster(&cluster, options.idle(), measured).await, failed);
        }
        if options.wants(&node::NAMES) {
            note("corten: pods");
            node::measure(&cluster, options, measured, failed).await?;
        }
        cluster.down()?;
    }
    if options.wants(&load::NAMES) {
        note("corten: API");
        let cluster = start::cluster(&binary)?;
        attempt("API", load::measure(&Subject::of_cluster(&cluster)?, options, measured).await, failed);
        cluster.down()?;
    }
    for case in CASES {
        if options.wants(case.names) {
            note(format_args!("corten: {}", case.what));
            let cluster = start::cluster(&binary)?;
            let subject = Subject::of_cluster(&cluster)?;
            attempt(case.what, measure_case(case, &subject, options, measured).await, failed);
            cluster.down()?;
        }
    }
    attempt("cycle", cycle::measure(options, measured).await, failed);
    for case in scheduler::wanted(options) {
        note(format!("corten: {}", case.name));
        let cluster = start::cluster(&binary)?;
        let subject = Subject::of_cluster(&cluster)?;
        attempt(case.name, scheduler::measure(&case, &subject, options, measured).await, failed);
        cluster.down()?;
    }
    hollow(options, measured, failed).await
}

/// Clusters of hollow nodes, only when asked for.
async fn hollow(options: &Options, measured: &mut Measured, failed: &mut bool) -> Result<()> {
    let binary = &options.binary;
    let asked = |names: &[&str]| !options.only.is_empty() && options.wants(names);
    if asked(&kwok::NAMES) || asked(&["kwok"]) {
        note("corten: kwok");
        let cluster = start::cluster(binary)?;
        let subject = Subject::of_cluster(&cluster)?;
        attempt("kwok", kwok::measure(binary, &subject, options, measured).await, failed);
        cluster.down()?;
    }
    if asked(&kwok::LARGE) || asked(&["large"]) {
        note("corten: large");
        let cluster = start::cluster(binary)?;
        let subject = Subject::of_cluster(&cluster)?;
        attempt("large", kwok::measure_large(binary, &subject, options, measured).await, failed);
        cluster.down()?;
    }
    Ok(())
}

async fn upstream(options: &Options, measured: &mut Measured, failed: &mut bool) -> Result<()> {
    let Some(dir) = &options.upstream_bin else { return Ok(()) };
    if let Some(bytes) = upstream::size(dir)? {
        measured.set("size", bytes);
    }
    let wanted = ["api-ready", "idle-control-plane", "idle-cpu"];
    if options.wants(&wanted) || options.wants(&load::NAMES) {
        note("upstream: start");
        let control_plane = upstream::ControlPlane::start(dir, measured).await?;
        if options.wants(&wanted) {
            note("upstream: idle");
            attempt("idle", process::idle_processes(&control_plane.all(), options.idle(), measured).await, failed);
        }
        if options.wants(&load::NAMES) {
            note("upstream: API");
            attempt("API", load::measure(&control_plane.subject(), options, measured).await, failed);
        }
    }
    // Upstream's controllers would delete so many namespaces for hours: they ask at most twenty times a second.
    for case in CASES.iter().filter(|case| case.what != "namespaces") {
        if options.wants(case.names) {
            note(format_args!("upstream: {}", case.what));
            let control_plane = upstream::ControlPlane::start(dir, measured).await?;
            attempt(case.what, measure_case(case, &control_plane.subject(), options, measured).await, failed);
        }
    }
    for case in scheduler::wanted(options) {
        note(format!("upstream: {}", case.name));
        let control_plane = upstream::ControlPlane::start(dir, measured).await?;
        attempt(case.name, scheduler::measure(&case, &control_plane.subject(), options, measured).await, failed);
    }
    if options.only.iter().any(|only| only == "kwok") {
        note("upstream: kwok");
        let control_plane = upstream::ControlPlane::start(dir, measured).await?;
        attempt("kwok", kwok::measure(&options.binary, &control_plane.subject(), options, measured).await, failed);
    }
    Ok(())
}

async fn run(options: &Options) -> Result<bool> {
    let (mut table, mut failed) = (Table::default(), false);
    let done = corten(options, &mut table.corten, &mut failed).await;
    attempt("Corten", done, &mut failed);
    let done = upstream(options, &mut table.upstream, &mut failed).await;
    attempt("upstream", done, &mut failed);
    println!("{}", if options.json { table.json(&options.only)? } else { table.markdown(&options.only) });
    Ok(!failed)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
