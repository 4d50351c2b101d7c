//! Metrics of authentication and authorization, and of the files that configure them, under upstream's names.

use std::sync::OnceLock;
use std::time::Duration;

use auth_api::Decision;
use sha2::{Digest, Sha256};
use telemetry::metrics::{CounterVec, GaugeVec, HistogramVec, counter_vec, gauge_vec, histogram_vec};

/// A millisecond, doubled fourteen times.
const BUCKETS: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

struct Metrics {
    users: CounterVec,
    attempts: CounterVec,
    seconds: HistogramVec,
    decisions: CounterVec,
    decision_seconds: HistogramVec,
}

fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    ALL.get_or_init(|| Metrics {
        users: counter_vec(
            "authenticated_user_requests",
            "Counter of authenticated requests broken out by username.",
            &["username"],
        ),
        attempts: counter_vec("authentication_attempts", "Counter of authenticated attempts.", &["result"]),
        seconds: histogram_vec(
            "authentication_duration_seconds",
            "Authentication duration in seconds broken out by result.",
            &["result"],
            &BUCKETS,
        ),
        decisions: counter_vec(
            "authorization_attempts_total",
            "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.",
            &["result"],
        ),
        decision_seconds: histogram_vec(
            "authorization_duration_seconds",
            "Authorization duration in seconds broken out by result.",
            &["result"],
            &BUCKETS,
        ),
    })
}

/// A user's name as a label: names must not make new ones without bound.
fn short(name: &str) -> &str {
    match name {
        name if name.starts_with("system:") => match name.split(':').nth(1) {
            Some("serviceaccount") => "system:serviceaccount",
            Some("node") => "system:node",
            Some("bootstrap") => "system:bootstrap",
            _ => name,
        },
        "admin" | "client" | "kube_proxy" => name,
        name if name.contains('@') => "email_id",
        _ => "other",
    }
}

/// Somebody was asked who he is: the name found, nobody, or an error.
pub(crate) fn authenticated(found: Result<Option<&str>, ()>, took: Duration) {
    let all = metrics();
    let result = match found {
        Ok(Some(_)) => "success",
        Ok(None) => "failure",
        Err(()) => "error",
    };
    all.attempts.with(&[result]).add(1);
    all.seconds.with(&[result]).observe(took.as_secs_f64());
    if let Ok(Some(name)) = found {
        all.users.with(&[short(name)]).add(1);
    }
}

/// The authorizer was asked.
pub(crate) fn authorized(decision: Option<Decision>, took: Duration) {
    let result = match decision {
        Some(Decision::Allow) => "allowed",
        Some(Decision::Deny) => "denied",
        Some(Decision::NoOpinion) => "no-opinion",
        None => "error",
    };
    let all = metrics();
    all.decisions.with(&[result]).add(1);
    all.decision_seconds.with(&[result]).observe(took.as_secs_f64());
}

/// Metrics of one file that is followed.
pub(crate) struct Reloads {
    total: CounterVec,
    last: GaugeVec,
    info: GaugeVec,
    hash: String,
}

impl Reloads {
    /// Of the file that a flag names; none for files whose reloads upstream does not count.
    pub(crate) fn of(flag: &str, content: &[u8]) -> Option<Self> {
        let what = match flag {
            "--authentication-config" => "authentication",
            "--authorization-config" => "authorization",
            "--encryption-provider-config" => "encryption",
            _ => return None,
        };
        let name = |tail: &str| format!("apiserver_{what}_config_controller_{tail}");
        let mut reloads = Self {
            total: counter_vec(
                &name("automatic_reloads_total"),
                &format!(
                    "Total number of automatic reloads of {what} configuration split by status and apiserver identity."
                ),
                &["status", "apiserver_id_hash"],
            ),
            last: gauge_vec(
                &name("automatic_reload_last_timestamp_seconds"),
                &format!(
                    "Timestamp of the last automatic reload of {what} configuration split by status and apiserver identity."
                ),
                &["status", "apiserver_id_hash"],
            ),
            info: gauge_vec(
                &name("last_config_info"),
                &format!(
                    "Information about the last applied {what} configuration with hash as label, split by apiserver identity."
                ),
                &["apiserver_id_hash", "hash"],
            ),
            hash: String::new(),
        };
        reloads.inform(content);
        Some(reloads)
    }

    fn inform(&mut self, content: &[u8]) {
        if !self.hash.is_empty() {
            self.info.with(&["", &self.hash]).set(0);
        }
        let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        self.hash = format!("sha256:{digest}");
        self.info.with(&["", &self.hash]).set(1);
    }

    /// The file was read again.
    pub(crate) fn reloaded(&mut self, content: &[u8], taken: bool) {
        let status = if taken { "success" } else { "failure" };
        self.total.with(&[status, ""]).add(1);
        self.last.with(&[status, ""]).set(rt::time::unix_seconds());
        if taken {
            self.inform(content);
        }
    }
}
