//! Flags and commands of `corten` itself; components bring their own.
//!
//! A command is one file under `cmd` and one row in [`Command`]. What a command prints is for people unless `--json` or
//! `-o json` is given; progress goes to standard error.

mod cmd;
mod error;
mod progress;
pub mod tiny;
pub mod volume;

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use rt::Shutdown;

pub use cmd::down::Down;
pub use cmd::image::Image;
pub use cmd::status::Status;
pub use cmd::up::Up;
pub use cmd::workshop::Workshop;
pub use error::{Error, Result, chain};

/// A Kubernetes in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "corten",
    version,
    about = "A Kubernetes in one binary",
    after_help = "Components run alone under upstream's names:\n  \
        corten kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kube-proxy | etcd\n  \
        corten hollow-node (nodes without machines, for clusters larger than the machine)\n\
        or by a link of that name to this binary. `corten COMPONENT --help` lists their flags.",
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster on this machine, or complete one that is half there.
    Up(Up),
    /// End a cluster and leave the machine as it was.
    Down(Down),
    /// Show the clusters of this machine.
    Status(Status),
    /// Work with the images of a cluster.
    Image(Image),
    /// Open a shell to start the components one by one.
    Workshop(Workshop),
}

/// Runs a command line; the first argument is the program. The shutdown is Ctrl-C.
///
/// # Errors
/// The command's; flag errors are printed by clap, which ends the process.
pub async fn run(arguments: Vec<OsString>, shutdown: Shutdown) -> Result<()> {
    match Cli::parse_from(arguments).command {
        Command::Up(up) => up.run(shutdown).await,
        Command::Down(down) => down.run(),
        Command::Status(status) => shutdown.run(status.run()).await.unwrap_or(Err(Error::Interrupted)),
        Command::Image(image) => shutdown.run(image.run()).await.unwrap_or(Err(Error::Interrupted)),
        Command::Workshop(workshop) => workshop.run(),
    }
}

/// Refuses to go on without root, with the reason.
fn need_root(what: &str, reason: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::Other(format!("{what} needs root: {reason}; try it with sudo")))
}
