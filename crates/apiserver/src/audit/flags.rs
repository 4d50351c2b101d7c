//! `--audit-*`.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::AuditError;
use super::backend::{Batch, Mode};

/// The flags of auditing: upstream's names and defaults.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Auditing flags")]
pub struct AuditFlags {
    /// Path to the file that defines the audit policy.
    #[arg(long)]
    pub audit_policy_file: Option<PathBuf>,
    /// File that all requests are logged to; `-` is standard output.
    #[arg(long)]
    pub audit_log_path: Option<PathBuf>,
    /// Days that old audit logs are kept; 0 for ever.
    #[arg(long, default_value_t = 366, allow_negative_numbers = true)]
    pub audit_log_maxage: i64,
    /// Number of old audit logs that are kept; 0 all.
    #[arg(long, default_value_t = 100, allow_negative_numbers = true)]
    pub audit_log_maxbackup: i64,
    /// Megabytes at which the log is put aside.
    #[arg(long, default_value_t = 100, allow_negative_numbers = true)]
    pub audit_log_maxsize: i64,
    /// Whether logs put aside are compressed with gzip.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub audit_log_compress: bool,
    /// `json`, or `legacy`.
    #[arg(long, default_value = "json")]
    pub audit_log_format: String,
    /// API version of logged events; there is one.
    #[arg(long, default_value = "audit.k8s.io/v1")]
    pub audit_log_version: String,
    /// `batch`, `blocking` or `blocking-strict`.
    #[arg(long, default_value = "blocking")]
    pub audit_log_mode: String,
    /// Events that may wait for the log in batch mode.
    #[arg(long, default_value_t = 10_000)]
    pub audit_log_batch_buffer_size: usize,
    /// Events in one batch.
    #[arg(long, default_value_t = 1)]
    pub audit_log_batch_max_size: usize,
    /// How long a batch waits to be full.
    #[arg(long, default_value = "0s")]
    pub audit_log_batch_max_wait: String,
    /// Whether batches are throttled.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub audit_log_batch_throttle_enable: bool,
    /// Batches per second.
    #[arg(long, default_value_t = 0.0)]
    pub audit_log_batch_throttle_qps: f64,
    /// Batches at once.
    #[arg(long, default_value_t = 0)]
    pub audit_log_batch_throttle_burst: u32,
    /// Whether too long events lose their bodies.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub audit_log_truncate_enabled: bool,
    /// Bytes above which they do.
    #[arg(long, default_value_t = 102_400)]
    pub audit_log_truncate_max_event_size: usize,
    /// Bytes above which a batch is divided.
    #[arg(long, default_value_t = 10_485_760)]
    pub audit_log_truncate_max_batch_size: usize,
    /// kubeconfig file of the audit webhook.
    #[arg(long)]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// Pause before a failed batch is posted again.
    #[arg(long, default_value = "10s")]
    pub audit_webhook_initial_backoff: String,
    /// API version of posted events; there is one.
    #[arg(long, default_value = "audit.k8s.io/v1")]
    pub audit_webhook_version: String,
    /// `batch`, `blocking` or `blocking-strict`.
    #[arg(long, default_value = "batch")]
    pub audit_webhook_mode: String,
    /// Events that may wait for the webhook in batch mode.
    #[arg(long, default_value_t = 10_000)]
    pub audit_webhook_batch_buffer_size: usize,
    /// Events in one batch.
    #[arg(long, default_value_t = 400)]
    pub audit_webhook_batch_max_size: usize,
    /// How long a batch waits to be full.
    #[arg(long, default_value = "30s")]
    pub audit_webhook_batch_max_wait: String,
    /// Whether batches are throttled.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub audit_webhook_batch_throttle_enable: bool,
    /// Batches per second.
    #[arg(long, default_value_t = 10.0)]
    pub audit_webhook_batch_throttle_qps: f64,
    /// Batches at once.
    #[arg(long, default_value_t = 15)]
    pub audit_webhook_batch_throttle_burst: u32,
    /// Whether too long events lose their bodies.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub audit_webhook_truncate_enabled: bool,
    /// Bytes above which they do.
    #[arg(long, default_value_t = 102_400)]
    pub audit_webhook_truncate_max_event_size: usize,
    /// Bytes above which a batch is divided.
    #[arg(long, default_value_t = 10_485_760)]
    pub audit_webhook_truncate_max_batch_size: usize,
}

fn mode(flag: &str, text: &str) -> Result<Mode, AuditError> {
    match text {
        "batch" => Ok(Mode::Batch),
        "blocking" => Ok(Mode::Blocking),
        "blocking-strict" => Ok(Mode::BlockingStrict),
        other => Err(AuditError::Flags(format!(
            "invalid audit {flag} mode {other}, allowed modes are \"batch,blocking,blocking-strict\""
        ))),
    }
}

fn duration(flag: &str, text: &str) -> Result<std::time::Duration, AuditError> {
    let wrong = || AuditError::Flags(format!("invalid argument {text:?} for {flag:?} flag"));
    meta::time::parse_go_duration(text).ok_or_else(wrong)
}

/// What is wrong with the queue of a back end, in upstream's words.
fn batch_problem(
    plugin: &str,
    chosen: &str,
    (buffer, size): (usize, usize),
    throttle: Option<(f64, u32)>,
) -> Option<String> {
    match mode(plugin, chosen) {
        Err(error) => return Some(error.to_string()),
        Ok(Mode::Batch) => {}
        Ok(_) => return None,
    }
    let wrong = |what: &str, value: String| {
        Some(format!("invalid audit batch {plugin} {what} {value}, must be a positive number"))
    };
    match throttle {
        _ if buffer == 0 => wrong("buffer size", buffer.to_string()),
        _ if size == 0 => wrong("max batch size", size.to_string()),
        Some((qps, _)) if qps <= 0.0 => wrong("throttle QPS", qps.to_string()),
        Some((_, 0)) => wrong("throttle burst", "0".into()),
        _ => None,
    }
}

/// What is wrong with the limits of a back end, in upstream's words.
fn truncate_problem(plugin: &str, enabled: bool, (event, batch): (usize, usize)) -> Option<String> {
    if !enabled {
        return None;
    }
    if event == 0 {
        return Some(format!("invalid audit truncate {plugin} max event size {event}, must be a positive number"));
    }
    (batch < event).then(|| {
        format!("invalid audit truncate {plugin} max batch size {batch}, must be greater than max event size ({event})")
    })
}

impl AuditFlags {
    /// What contradicts, in upstream's words.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.audit_log_path.is_some() {
            let limit = (self.audit_log_batch_throttle_qps, self.audit_log_batch_throttle_burst);
            let throttle = self.audit_log_batch_throttle_enable.then_some(limit);
            let sizes = (self.audit_log_batch_buffer_size, self.audit_log_batch_max_size);
            wrong.extend(batch_problem("log", &self.audit_log_mode, sizes, throttle));
            let sizes = (self.audit_log_truncate_max_event_size, self.audit_log_truncate_max_batch_size);
            wrong.extend(truncate_problem("log", self.audit_log_truncate_enabled, sizes));
            if !matches!(self.audit_log_format.as_str(), "json" | "legacy") {
                let format = &self.audit_log_format;
                wrong.push(format!("invalid audit log format {format}, allowed formats are \"legacy,json\""));
            }
            for (flag, value) in [
                ("maxage", self.audit_log_maxage),
                ("maxbackup", self.audit_log_maxbackup),
                ("maxsize", self.audit_log_maxsize),
            ] {
                if value < 0 {
                    wrong.push(format!("--audit-log-{flag} {value} can't be a negative number"));
                }
            }
        }
        if self.audit_webhook_config_file.is_some() {
            let limit = (self.audit_webhook_batch_throttle_qps, self.audit_webhook_batch_throttle_burst);
            let throttle = self.audit_webhook_batch_throttle_enable.then_some(limit);
            let sizes = (self.audit_webhook_batch_buffer_size, self.audit_webhook_batch_max_size);
            wrong.extend(batch_problem("webhook", &self.audit_webhook_mode, sizes, throttle));
            let sizes = (self.audit_webhook_truncate_max_event_size, self.audit_webhook_truncate_max_batch_size);
            wrong.extend(truncate_problem("webhook", self.audit_webhook_truncate_enabled, sizes));
        }
        for version in [&self.audit_log_version, &self.audit_webhook_version] {
            if version != "audit.k8s.io/v1" {
                wrong.push(format!("invalid audit group version {version}, allowed versions are \"audit.k8s.io/v1\""));
            }
        }
        wrong
    }

    /// Bytes above which an event of the log loses its bodies.
    pub(super) fn log_truncate(&self) -> Option<usize> {
        self.audit_log_truncate_enabled.then_some(self.audit_log_truncate_max_event_size)
    }

    /// Bytes above which an event of the webhook loses its bodies.
    pub(super) fn webhook_truncate(&self) -> Option<usize> {
        self.audit_webhook_truncate_enabled.then_some(self.audit_webhook_truncate_max_event_size)
    }

    pub(super) fn log_mode(&self) -> Result<Mode, AuditError> {
        mode("log", &self.audit_log_mode)
    }

    pub(super) fn webhook_mode(&self) -> Result<Mode, AuditError> {
        mode("webhook", &self.audit_webhook_mode)
    }

    pub(super) fn log_batch(&self) -> Result<Batch, AuditError> {
        let limit = (self.audit_log_batch_throttle_qps, self.audit_log_batch_throttle_burst);
        Ok(Batch {
            buffer: self.audit_log_batch_buffer_size,
            size: self.audit_log_batch_max_size,
            wait: duration("--audit-log-batch-max-wait", &self.audit_log_batch_max_wait)?,
            throttle: (self.audit_log_batch_throttle_enable && limit.0 > 0.0).then_some(limit),
        })
    }

    pub(super) fn webhook_batch(&self) -> Result<Batch, AuditError> {
        let limit = (self.audit_webhook_batch_throttle_qps, self.audit_webhook_batch_throttle_burst);
        Ok(Batch {
            buffer: self.audit_webhook_batch_buffer_size,
            size: self.audit_webhook_batch_max_size,
            wait: duration("--audit-webhook-batch-max-wait", &self.audit_webhook_batch_max_wait)?,
            throttle: (self.audit_webhook_batch_throttle_enable && limit.0 > 0.0).then_some(limit),
        })
    }
}
