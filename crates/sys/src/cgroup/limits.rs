//! Limits of a group, given once, written as each version has them.

use super::{Group, bpf};
use crate::devices::DeviceKind;
use crate::{Context, Error, Result};

/// One thing that a container may do with devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number; `None` for all.
    pub major: Option<u32>,
    /// Minor number; `None` for all.
    pub minor: Option<u32>,
    /// Some of `r`, `w`, `m`.
    pub access: String,
}

/// Limits; `None` and empty leave what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU shares as on v1, 2..262144.
    pub cpu_shares: Option<u64>,
    /// CFS quota in µs; negative for none.
    pub cpu_quota: Option<i64>,
    /// CFS period in µs.
    pub cpu_period: Option<u64>,
    /// Bytes; negative for no limit.
    pub memory_limit: Option<i64>,
    /// Memory and swap together, bytes; negative for no limit.
    pub memory_swap_limit: Option<i64>,
    /// Tasks; negative for no limit.
    pub pids_limit: Option<i64>,
    /// CPUs.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Page size as the kernel names it (`2MB`) and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// Raw v2 files.
    pub unified: Vec<(String, String)>,
    /// What of devices is allowed; `None` leaves all allowed.
    pub devices: Option<Vec<DeviceAccess>>,
}

/// The v2 weight (1..10000) that stands for v1 shares: 2 → 1, 1024 → 100, 262144 → 10000, as runc and crun have it.
#[must_use]
pub fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

impl Group {
    /// Writes limits.
    ///
    /// # Errors
    /// The kernel's, and a limit for which this machine has no controller, where that would leave a container
    /// unconfined (memory).
    pub fn set(&self, limits: &Resources) -> Result<()> {
        if self.hierarchies.v1.is_empty() { self.set_v2(limits) } else { self.set_v1(limits) }
    }

    fn set_v1(&self, limits: &Resources) -> Result<()> {
        if let Some(shares) = limits.cpu_shares {
            self.write("cpu", "cpu.shares", &shares.max(2).to_string())?;
        }
        if let Some(period) = limits.cpu_period {
            let quota = limits.cpu_quota.map_or_else(|| "-1".to_owned(), |q| q.to_string());
            // A larger period first may be refused while the old quota is above the parent's share, and the other
            // way round; one of the two orders works.
            let period = period.to_string();
            if self.write("cpu", "cpu.cfs_period_us", &period).is_err() {
                self.write("cpu", "cpu.cfs_quota_us", &quota)?;
                self.write("cpu", "cpu.cfs_period_us", &period)?;
            }
        }
        if let Some(quota) = limits.cpu_quota {
            self.write("cpu", "cpu.cfs_quota_us", &quota.to_string())?;
        }
        self.set_v1_memory(limits)?;
        if let Some(pids) = limits.pids_limit {
            self.write("pids", "pids.max", &limit_or_max(pids))?;
        }
        if !limits.cpuset_cpus.is_empty() {
            self.write("cpuset", "cpuset.cpus", &limits.cpuset_cpus)?;
        }
        if !limits.cpuset_mems.is_empty() {
            self.write("cpuset", "cpuset.mems", &limits.cpuset_mems)?;
        }
        for (size, bytes) in &limits.hugepages {
            self.write("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), &bytes.to_string())?;
        }
        if let Some(devices) = &limits.devices {
            self.set_v1_devices(devices)?;
        }
        Ok(())
    }

    fn set_v1_memory(&self, limits: &Resources) -> Result<()> {
        const LIMIT: &str = "memory.limit_in_bytes";
        const SWAP: &str = "memory.memsw.limit_in_bytes";
        let Some(limit) = limits.memory_limit else { return Ok(()) };
        let Some(dir) = self.dir("memory") else {
            return Err(Error::invalid("limit memory of", &self.path, "there is no memory controller"));
        };
        let swap = limits.memory_swap_limit.filter(|_| dir.join(SWAP).exists());
        let Some(swap) = swap else { return self.write("memory", LIMIT, &limit.to_string()) };
        // Memory may never exceed memory + swap: raise the sum first, lower it last.
        if self.write("memory", SWAP, &swap.to_string()).is_ok() {
            return self.write("memory", LIMIT, &limit.to_string());
        }
        self.write("memory", LIMIT, &limit.to_string())?;
        self.write("memory", SWAP, &swap.to_string())
    }

    fn set_v1_devices(&self, devices: &[DeviceAccess]) -> Result<()> {
        let Some(dir) = self.dir("devices") else {
            return Err(Error::invalid("limit devices of", &self.path, "there is no devices controller"));
        };
        let (deny, allow) = (dir.join("devices.deny"), dir.join("devices.allow"));
        std::fs::write(&deny, "a").at("write", &deny)?;
        for device in devices {
            let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
            let kind = if device.kind == DeviceKind::Char { 'c' } else { 'b' };
            let rule = format!("{kind} {}:{} {}", number(device.major), number(device.minor), device.access);
            std::fs::write(&allow, rule).at("write", &allow)?;
        }
        Ok(())
    }

    fn set_v2(&self, limits: &Resources) -> Result<()> {
        if let Some(shares) = limits.cpu_shares {
            self.write("", "cpu.weight", &shares_to_weight(shares.max(2)).to_string())?;
        }
        if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
            let quota = match limits.cpu_quota {
                Some(q) if q > 0 => q.to_string(),
                _ => "max".to_owned(),
            };
            let period = limits.cpu_period.unwrap_or(100_000);
            self.write("", "cpu.max", &format!("{quota} {period}"))?;
        }
        if let Some(limit) = limits.memory_limit {
            if let Some(swap) = limits.memory_swap_limit
                && self.dir("").is_some_and(|d| d.join("memory.swap.max").exists())
            {
                let swap = if swap < 0 || limit < 0 { -1 } else { (swap - limit).max(0) };
                self.write("", "memory.swap.max", &limit_or_max(swap))?;
            }
            self.write("", "memory.max", &limit_or_max(limit))?;
        }
        if let Some(pids) = limits.pids_limit {
            self.write("", "pids.max", &limit_or_max(pids))?;
        }
        if !limits.cpuset_cpus.is_empty() {
            self.write("", "cpuset.cpus", &limits.cpuset_cpus)?;
        }
        if !limits.cpuset_mems.is_empty() {
            self.write("", "cpuset.mems", &limits.cpuset_mems)?;
        }
        for (size, bytes) in &limits.hugepages {
            self.write("", &format!("hugetlb.{size}.max"), &bytes.to_string())?;
        }
        for (file, value) in &limits.unified {
            if file.contains('/') {
                return Err(Error::invalid("limit", file, "not a file of a cgroup"));
            }
            self.write("", file, value)?;
        }
        match (&limits.devices, self.dir("")) {
            (Some(devices), Some(dir)) => bpf::allow_devices(&dir, devices),
            _ => Ok(()),
        }
    }
}

/// Negative and zero mean no limit.
fn limit_or_max(value: i64) -> String {
    if value <= 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_become_weights_as_runc_has_it() {
        for (shares, weight) in [(0, 0), (2, 1), (102, 17), (1024, 100), (2048, 170), (262_144, 10_000)] {
            let got = super::shares_to_weight(shares);
            assert!(got.abs_diff(weight) <= 5, "{shares}: {got} is not about {weight}");
        }
    }
}
