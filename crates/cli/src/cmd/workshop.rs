//! `corten workshop`.

use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use clap::Args;

use crate::error::{Error, Result};

/// The names that the workshop types.
const NAMES: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "corten"];

/// Whether this process was started from the shell that [`Workshop`] opens.
pub(crate) fn inside() -> bool {
    std::env::var("CORTEN_PROFILE").is_ok_and(|profile| profile == "workshop")
}

/// Open a shell to start the components one by one, as the 2019 workshop does: plain HTTP on localhost:8080, no
/// authentication.
#[derive(Debug, Args)]
pub struct Workshop {
    /// Run this command instead of a shell.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Workshop {
    /// Runs the command; ends with the shell's exit code.
    ///
    /// # Errors
    /// The shell cannot be started.
    pub fn run(self) -> Result<()> {
        crate::need_root("corten workshop", "its kubelet makes namespaces, interfaces and cgroups")?;
        let dir = local::runtime_dir().join(format!("workshop-{}", std::process::id()));
        let fail = |source| Error::File { doing: "prepare", path: dir.display().to_string(), source };
        // What a killed one with the same process id has left.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).map_err(fail)?;
        let program = std::env::current_exe().map_err(fail)?;
        for name in NAMES {
            symlink(&program, dir.join(name)).map_err(fail)?;
        }
        let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
        let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into());
        if self.command.is_empty() {
            eprintln!("The components are on your PATH: {}.", NAMES.join(", "));
            eprintln!(
                "Start them one by one; the API server also listens on http://localhost:8080, without TLS or login."
            );
            eprintln!("Images for the kubelet, when no registry is at hand: corten image import FILE.tar");
            eprintln!("This shell is for learning, not for work. Leave it with `exit`.");
        }
        let words = if self.command.is_empty() { vec![shell] } else { self.command };
        let status = Command::new(&words[0])
            .args(&words[1..])
            .env("PATH", path)
            .env("CORTEN_PROFILE", "workshop")
            .status()
            .map_err(|source| Error::File { doing: "start", path: words[0].clone(), source });
        // Left behind it would only be a folder of links under /run.
        let _ = std::fs::remove_dir_all(&dir);
        let status = status?;
        match status.code() {
            Some(0) => Ok(()),
            Some(code) => Err(Error::Other(format!("the shell ended with exit code {code}"))),
            None => Err(Error::Other(format!("the shell was ended by signal {}", status.signal().unwrap_or(0)))),
        }
    }
}
