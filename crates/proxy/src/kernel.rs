//! Kernel settings that kube-proxy's flags give: the size and times of connection tracking, the OOM score.

use std::time::Duration;
use sys::netlink::sysctl;

/// Upstream's cap on the automatic size of the conntrack table.
const MAX_AUTOMATIC: u64 = 1_048_576;

/// Settings of connection tracking; zero leaves the system's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conntrack {
    /// Entries per processor.
    pub max_per_core: u32,
    /// Entries at least, whatever the processors.
    pub min: u32,
    /// How long idle TCP connections are kept.
    pub tcp_established: Duration,
    /// How long half-closed TCP connections are kept.
    pub tcp_close_wait: Duration,
    /// Whether packets out of the window are still part of their connection.
    pub tcp_be_liberal: bool,
    /// How long UDP flows are kept.
    pub udp: Duration,
    /// How long UDP flows with answers are kept.
    pub udp_stream: Duration,
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_per_core: 32_768,
            min: 131_072,
            tcp_established: Duration::from_secs(24 * 3600),
            tcp_close_wait: Duration::from_secs(3600),
            tcp_be_liberal: false,
            udp: Duration::ZERO,
            udp_stream: Duration::ZERO,
        }
    }
}

impl Conntrack {
    fn entries(&self, cores: u64) -> u64 {
        if self.max_per_core == 0 {
            0
        } else {
            (u64::from(self.max_per_core) * cores).clamp(u64::from(self.min), MAX_AUTOMATIC.max(self.min.into()))
        }
    }

    /// Raises what is lower than asked for. In a namespace of its own a process may not change the size; the host's
    /// holds then, which is no reason not to run.
    pub fn apply(&self) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let wanted = [
            ("net/netfilter/nf_conntrack_max", self.entries(cores)),
            ("net/netfilter/nf_conntrack_tcp_timeout_established", self.tcp_established.as_secs()),
            ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", self.tcp_close_wait.as_secs()),
            ("net/netfilter/nf_conntrack_tcp_be_liberal", u64::from(self.tcp_be_liberal)),
            ("net/netfilter/nf_conntrack_udp_timeout", self.udp.as_secs()),
            ("net/netfilter/nf_conntrack_udp_timeout_stream", self.udp_stream.as_secs()),
        ];
        for (key, value) in wanted {
            let now = sysctl::get(key).ok().and_then(|v| v.parse().ok()).unwrap_or(0);
            if value == 0 || now >= value {
                continue;
            }
            if let Err(error) = sysctl::set(key, &value.to_string()) {
                tracing::warn!(key, value, error = &error as &dyn std::error::Error, "could not set a conntrack value");
            }
        }
    }
}

/// Sets the process's OOM score; without the right to lower it, it stays as it is.
pub fn oom_score(adjust: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", adjust.to_string()) {
        tracing::info!(adjust, %error, "could not set the OOM score");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_follows_processors_within_bounds() {
        let conntrack = Conntrack::default();
        for (cores, entries) in [(1, 131_072), (8, 262_144), (64, 1_048_576)] {
            assert_eq!(conntrack.entries(cores), entries);
        }
        assert_eq!(Conntrack { max_per_core: 0, ..conntrack }.entries(8), 0);
    }
}
