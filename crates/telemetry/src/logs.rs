//! Log output: text or JSON on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line (`--logging-format=json`).
    Json,
}

/// Starts logging with upstream's verbosity: 0 and 1 are info, 2 to 4 debug, above trace. The variable `CORTEN_LOG` (a
/// `tracing` filter) goes before it. Only the first call in a process counts.
pub fn init(format: Format, verbosity: u8) {
    let default = match verbosity {
        0..=2 => "info",
        3..=4 => "info,corten=debug,apiserver=debug,registry=debug,kubelet=debug,controllers=debug,scheduler=debug",
        5..=8 => "debug,h2=info,hyper=info,rustls=info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("CORTEN_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A second call finds the subscriber set, which is what is wanted.
    let _ = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
}
