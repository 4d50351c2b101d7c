//! `kube-apiserver` as a command.

use std::ffi::OsString;

use rt::Shutdown;

use crate::assemble::{Extras, start};
use crate::flags::Flags;

/// Runs the command until shutdown; `arguments` begin with the command's name. Gives the exit code.
pub async fn main(arguments: Vec<OsString>, shutdown: Shutdown) -> u8 {
    let flags = match Flags::read(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to be done when standard error is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
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
    match start(&flags, extras, shutdown).await {
        Ok(handle) => {
            handle.ended().await;
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
