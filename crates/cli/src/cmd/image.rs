//! `corten image`.

use clap::{Args, Subcommand};

use crate::error::Result;

/// Work with the images of a cluster.
#[derive(Debug, Args)]
pub struct Image {
    /// Name of the cluster.
    #[arg(long, default_value = "default", global = true)]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

impl Image {
    /// Runs the command.
    ///
    /// # Errors
    /// The image or the store is unusable.
    pub async fn run(self) -> Result<()> {
        match self.command {}
    }
}
