//! `volume-helper`, the program of the pods that make and remove directories of the built-in volume provisioner.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

/// Makes and removes a volume's directory.
#[derive(Debug, Parser)]
#[command(name = "volume-helper")]
struct Flags {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a directory that everybody may write to.
    Make {
        /// Which.
        directory: PathBuf,
    },
    /// Remove a directory with all that is in it.
    Remove {
        /// Which.
        directory: PathBuf,
    },
}

fn make(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))
}

fn remove(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Runs the command. `arguments` begin with the command's name. Gives the exit code.
pub fn main(arguments: Vec<OsString>) -> u8 {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to be done when standard error is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    let (done, doing, directory) = match &flags.action {
        Action::Make { directory } => (make(directory), "make", directory),
        Action::Remove { directory } => (remove(directory), "remove", directory),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {doing} {}: {error}", directory.display());
            1
        }
    }
}
