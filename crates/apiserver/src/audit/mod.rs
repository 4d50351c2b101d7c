//! Audit: who did what, when, and what came of it.
//!
//! [`Auditor`] holds the policy and the back ends; without a policy and a back end there is none, and requests pay nothing. A
//! [`Trail`] follows one request that the policy wants: its stages become events, and each event goes to every back end.

mod backend;
pub mod flags;
mod log_file;
mod policy;
mod trail;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use trail::{Origin, Stage, Trail};

use self::backend::{Backend, Mode, Sink};
use self::flags::AuditFlags;
use self::policy::Policy;

/// Why auditing cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The policy's file cannot be read.
    #[error("loading audit policy file: failed to read file path {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no policy.
    #[error("loading audit policy file: failed decoding file {}: {message}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The log cannot be written.
    #[error("--audit-log-path: open {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The webhook's configuration cannot be used.
    #[error("--audit-webhook-config-file")]
    Webhook(#[source] client::ConfigError),
    /// Flags contradict each other.
    #[error("{0}")]
    Flags(String),
}

/// The policy with its back ends.
pub struct Auditor {
    policy: Policy,
    backends: Vec<Backend>,
}

impl Auditor {
    /// Auditing as the flags say; `None` when they ask for none.
    ///
    /// # Errors
    /// See [`AuditError`].
    pub fn new(flags: &AuditFlags, shutdown: &rt::Shutdown) -> Result<Option<Arc<Self>>, AuditError> {
        let wanted = flags.audit_log_path.is_some() || flags.audit_webhook_config_file.is_some();
        let Some(path) = &flags.audit_policy_file else {
            if wanted {
                // Upstream's words for back ends that would never be given anything.
                tracing::warn!("no audit policy file provided, no events will be recorded");
            }
            return Ok(None);
        };
        let text = std::fs::read_to_string(path).map_err(|source| AuditError::Read { path: path.clone(), source })?;
        let policy = Policy::parse(&text).map_err(|message| AuditError::Policy { path: path.clone(), message })?;
        let mut backends = Vec::new();
        if let Some(path) = &flags.audit_log_path {
            let sink: Arc<dyn Sink> = Arc::new(log_file::LogFile::open(path, flags)?);
            let mode = (flags.log_mode()?, flags.log_truncate());
            backends.push(Backend::start("log", sink, mode, flags.log_batch()?, shutdown));
        }
        if let Some(path) = &flags.audit_webhook_config_file {
            let sink: Arc<dyn Sink> = Arc::new(webhook::Webhook::new(path, flags)?);
            let mode = (flags.webhook_mode()?, flags.webhook_truncate());
            backends.push(Backend::start("webhook", sink, mode, flags.webhook_batch()?, shutdown));
        }
        if backends.is_empty() { Ok(None) } else { Ok(Some(Arc::new(Self { policy, backends }))) }
    }

    /// Gives an event to every back end.
    ///
    /// # Errors
    /// A back end that must not lose anything could not take it.
    pub(crate) async fn record(&self, event: Arc<trail::Event>) -> Result<(), ()> {
        let mut lost = false;
        for backend in &self.backends {
            lost |= !backend.take(event.clone()).await && backend.mode() == Mode::BlockingStrict;
        }
        if lost { Err(()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
