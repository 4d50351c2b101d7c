//! What a group uses.

use std::path::Path;

use super::Group;

/// Usage of a group and all below it. What cannot be read is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time, ns.
    pub cpu_ns: u64,
    /// Memory, page cache included, bytes.
    pub memory_bytes: u64,
    /// Memory that counts for eviction: without inactive file pages.
    pub working_set_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// The limit, where there is one.
    pub memory_limit: Option<u64>,
    /// Swap used.
    pub swap_bytes: u64,
    /// Minor faults.
    pub page_faults: u64,
    /// Major faults.
    pub major_page_faults: u64,
    /// Tasks.
    pub tasks: u64,
}

impl Group {
    /// Reads the usage.
    #[must_use]
    pub fn stats(&self) -> Stats {
        if self.hierarchies.v1.is_empty() { self.stats_v2() } else { self.stats_v1() }
    }

    fn stats_v1(&self) -> Stats {
        let mut stats = Stats::default();
        if let Some(dir) = self.dir("cpuacct") {
            stats.cpu_ns = number(&dir.join("cpuacct.usage"));
        }
        if let Some(dir) = self.dir("memory") {
            stats.memory_bytes = number(&dir.join("memory.usage_in_bytes"));
            // "No limit" is a number near 2^63.
            stats.memory_limit = Some(number(&dir.join("memory.limit_in_bytes"))).filter(|l| *l < 1 << 62);
            let text = std::fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
            stats.working_set_bytes = stats.memory_bytes.saturating_sub(field(&text, "total_inactive_file "));
            stats.rss_bytes = field(&text, "total_rss ");
            stats.swap_bytes = field(&text, "total_swap ");
            stats.page_faults = field(&text, "total_pgfault ");
            stats.major_page_faults = field(&text, "total_pgmajfault ");
        }
        if let Some(dir) = self.dir("pids") {
            stats.tasks = number(&dir.join("pids.current"));
        }
        stats
    }

    fn stats_v2(&self) -> Stats {
        let mut stats = Stats::default();
        let Some(dir) = self.dir("") else { return stats };
        let cpu = std::fs::read_to_string(dir.join("cpu.stat")).unwrap_or_default();
        stats.cpu_ns = field(&cpu, "usage_usec ") * 1000;
        stats.memory_bytes = number(&dir.join("memory.current"));
        stats.memory_limit = std::fs::read_to_string(dir.join("memory.max")).ok().and_then(|t| t.trim().parse().ok());
        let text = std::fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        stats.working_set_bytes = stats.memory_bytes.saturating_sub(field(&text, "inactive_file "));
        stats.rss_bytes = field(&text, "anon ");
        stats.page_faults = field(&text, "pgfault ");
        stats.major_page_faults = field(&text, "pgmajfault ");
        stats.swap_bytes = number(&dir.join("memory.swap.current"));
        stats.tasks = number(&dir.join("pids.current"));
        stats
    }
}

fn number(path: &Path) -> u64 {
    std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}
