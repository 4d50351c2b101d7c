//! `kube-apiserver` as a command.

use clap::Parser;
use rt::Shutdown;

use crate::assemble::{Extras, start};
use crate::flags::Flags;

/// Runs the command until shutdown; `arguments` begin with the command's name. Gives the exit code.
pub async fn main(arguments: Vec<String>, shutdown: Shutdown) -> i32 {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to be done when standard error is gone.
            let _ = error.print();
            return error.exit_code();
        }
    };
    if flags.version {
        println!("Kubernetes {}", crate::VERSION);
        return 0;
    }
    let format =
        if flags.logging_format == "json" { telemetry::logs::Format::Json } else { telemetry::logs::Format::Text };
    telemetry::logs::init(format, flags.v);
    let workshop = std::env::var("CORTEN_PROFILE").is_ok_and(|p| p == "workshop");
    let extras = Extras { workshop, ..Extras::default() };
    match start(&flags, extras, shutdown.clone()).await {
        Ok(_handle) => {
            shutdown.cancelled().await;
            // Open requests get their time before the process ends.
            rt::time::sleep(std::time::Duration::from_millis(100)).await;
            0
        }
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("error: {text}");
            1
        }
    }
}
