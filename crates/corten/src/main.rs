//! One binary, many names: dispatch, wiring and shutdown.
//!
//! The first argument, or the name it was called by, says what this process is. Processes that make namespaces
//! (holder, supervisor) run before any thread exists; everything else runs on the executor.

mod agent;
mod control_plane;
mod hollow;
mod in_process;
mod node;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use rt::Shutdown;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: sys::memory::Allocator = sys::memory::Allocator;

/// Names under which this binary is a component of its own.
const COMPONENTS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "etcd"];

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let called = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let called = called.to_string_lossy().into_owned();
    let name = if called == "corten" || called == "exe" || !is_name(&called) {
        match arguments.get(1).map(|a| a.to_string_lossy().into_owned()) {
            Some(first) if is_name(&first) => {
                arguments.remove(0);
                first
            }
            _ => String::new(),
        }
    } else {
        called
    };
    dispatch(&name, arguments)
}

/// Whether a word names a component or an inner process.
fn is_name(word: &str) -> bool {
    COMPONENTS.contains(&word)
        || matches!(
            word,
            "corten-supervisor"
                | "node-holder"
                | "node-agent"
                | "control-plane"
                | "demo"
                | "pause"
                | "volume-helper"
                | "hollow-node"
        )
        || cni::plugins::PLUGINS.iter().any(|plugin| plugin.name() == word)
}

fn dispatch(name: &str, arguments: Vec<OsString>) -> ExitCode {
    // Before any thread exists.
    sys::memory::bound_heaps(2);
    if matches!(name, "corten-supervisor" | "node-holder" | "node-agent" | "kubelet" | "kube-proxy" | "demo") {
        sys::memory::return_large_buffers();
    }
    if matches!(name, "demo" | "pause") {
        // The first process of a container: until its handlers are there, it would lose a request to end.
        sys::process::hold_termination(true);
    }
    match name {
        "corten-supervisor" => exit(runtime::supervisor::main(arguments.into_iter().skip(1))),
        "node-holder" => {
            let spec = arguments.get(1).cloned().unwrap_or_default();
            report(local::holder_main(Path::new(&spec)).map_err(Into::into))
        }
        "pause" => component(1, |shutdown| async move {
            shutdown.cancelled().await;
            0
        }),
        "volume-helper" => exit(i32::from(cli::volume::main(arguments))),
        "demo" => component(1, |shutdown| cli::tiny::main(arguments, shutdown)),
        "control-plane" => {
            telemetry::logs::init(telemetry::logs::Format::Text, 2);
            report(on_executor(0, |shutdown| control_plane::run(arguments, shutdown)))
        }
        "node-agent" => {
            telemetry::logs::init(telemetry::logs::Format::Text, 2);
            report(on_executor(0, |shutdown| agent::run(arguments, shutdown)))
        }
        "etcd" => component(0, |shutdown| etcd_server::run(arguments, shutdown)),
        "kube-apiserver" => component(0, |shutdown| apiserver::command::main(arguments, shutdown)),
        "kube-controller-manager" => component(0, |shutdown| controllers::main(arguments, shutdown)),
        "kube-scheduler" => component(0, |shutdown| scheduler::main(arguments, shutdown)),
        "hollow-node" => component(0, |shutdown| hollow::main(arguments, shutdown)),
        "kubelet" => component(0, |shutdown| {
            kubelet::command::main(arguments, shutdown, || async { node::open_lone().await.map_err(Into::into) })
        }),
        "kube-proxy" => component(0, |shutdown| proxy::flags::main(arguments, shutdown)),
        name if cni::plugins::find(name).is_some() => exit(cni::plugins::main(name).unwrap_or(2)),
        _ => match on_executor(0, |shutdown| async move { Ok(cli::run(arguments, shutdown).await) }) {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => {
                eprintln!("corten: {}", cli::chain(&error));
                ExitCode::FAILURE
            }
            Err(error) => report(Err(error)),
        },
    }
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Runs a component, which says itself what keeps it from running, and gives its exit code.
fn component<F: Future<Output = u8>>(workers: usize, work: impl FnOnce(Shutdown) -> F) -> ExitCode {
    match on_executor(workers, |shutdown| async { Ok(work(shutdown).await) }) {
        Ok(code) => ExitCode::from(code),
        Err(error) => report(Err(error)),
    }
}

fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corten: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a future on the executor; SIGTERM and SIGINT cancel the shutdown that it is given. `workers` 0 means one
/// per processor.
fn on_executor<F, T>(workers: usize, work: impl FnOnce(Shutdown) -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if workers > 0 {
        builder.worker_threads(workers);
    }
    let executor = builder.enable_all().build()?;
    executor.block_on(async move {
        let shutdown = Shutdown::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        sys::process::hold_termination(false);
        let told = shutdown.clone();
        rt::spawn("signals", async move {
            rt::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.cancel();
        });
        work(shutdown).await
    })
}
