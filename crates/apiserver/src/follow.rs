//! Configuration files that may change while the server runs: followed by inotify, in force without a signal.

use std::path::{Path, PathBuf};

use futures::StreamExt;
use futures::future::BoxFuture;
use inotify::{EventStream, Inotify, WatchMask};
use rt::Shutdown;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

/// Puts a file's new content in force.
pub(crate) type Apply = Box<dyn Fn(Vec<u8>) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Follows a file until shutdown: whenever its content differs from what was last seen, `apply` gets it. What `apply` refuses is
/// said in the log and leaves the old content in force. `known` is the content in force now.
///
/// The directory is what is watched, so that files are seen that are replaced by renaming or by switching a symlink, as in mounted
/// ConfigMaps.
pub(crate) fn follow(what: &'static str, path: PathBuf, known: &[u8], shutdown: Shutdown, apply: Apply) {
    let mut seen = Sha256::digest(known);
    let mut reloads = crate::auth_metrics::Reloads::of(what, known);
    let mut notices = match notices(&path) {
        Ok(notices) => notices,
        Err(error) => {
            warn!(what, path = %path.display(), %error, "file cannot be watched: its changes need a restart");
            return;
        }
    };
    rt::spawn("follow-file", async move {
        // Events of a directory come in bursts; what counts is the content after each.
        while let Some(Some(_)) = shutdown.run(notices.next()).await {
            let Ok(content) = std::fs::read(&path) else { continue };
            let hash = Sha256::digest(&content);
            if hash == seen || content.is_empty() {
                continue;
            }
            seen = hash;
            let outcome = apply(content.clone()).await;
            if let Some(reloads) = &mut reloads {
                reloads.reloaded(&content, outcome.is_ok());
            }
            match outcome {
                Ok(()) => info!(what, path = %path.display(), "file was read again"),
                Err(error) => warn!(what, path = %path.display(), error, "changed file is not taken"),
            }
        }
    });
}

fn notices(path: &Path) -> std::io::Result<EventStream<[u8; 4096]>> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::CREATE;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    inotify.watches().add(directory, mask)?;
    inotify.into_event_stream([0; 4096])
}
