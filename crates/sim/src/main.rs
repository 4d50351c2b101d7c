//! A whole cluster as a function of a seed: fake time, faults, invariants.
//!
//! The real store (its memory engine), registry, API server, informers, controllers and scheduler run in one thread whose time is
//! simulated, with hollow nodes and a user beside them. Processes are killed, connections and watches break, answers are lost,
//! clocks jump, machines go away. What must hold at each revision is checked against the store's log ([`model`]), what must
//! hold in the end once everything is left alone ([`settle`]). A seed is a process of its own, so that it owns clock and entropy.

mod behaviour;
mod chaos;
mod entropy;
mod many;
mod model;
mod objects;
mod plane;
mod run;
mod server;
mod settle;
mod trace;
mod transport;
mod tree;
mod user;
mod watcher;

use std::process::ExitCode;

use clap::Parser;

/// Simulates clusters and checks what must hold.
#[derive(Debug, Clone, Parser)]
#[command(name = "sim", version)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 25)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: print everything that happens.
    #[arg(long)]
    trace: bool,
    /// With --seed: print the logs of the components, such as `debug` or `controllers=trace`.
    #[arg(long, value_name = "FILTER")]
    logs: Option<String>,
    /// How many at a time; as many as there are processors when not given.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let Some(seed) = options.seed else { return many::run(&options) };
    entropy::seed(seed);
    if let Some(filter) = &options.logs {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).init();
    }
    match run::run(seed, options.trace) {
        Ok(outcome) => report(seed, &outcome),
        Err(error) => {
            println!("seed {seed}: the simulation failed: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn report(seed: u64, outcome: &run::Outcome) -> ExitCode {
    let (requests, faults) = outcome.requests;
    println!(
        "seed {seed}: hash {:016x}, {} events, {} revisions, {requests} requests, {faults} faults, {:.0} s",
        outcome.hash, outcome.events, outcome.revisions, outcome.seconds
    );
    for failure in &outcome.failures {
        println!("seed {seed}: FAILED: {failure}");
    }
    ExitCode::from(u8::from(!outcome.failures.is_empty()))
}
