//! What a process uses, as Linux tells it.

use std::fs;
use std::io;

/// Memory and descriptors of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory that it has, in KiB.
    pub resident_kb: u64,
    /// The most that it ever had, in KiB.
    pub peak_kb: u64,
    /// The most addresses that it ever had, in KiB: what `prlimit --as` limits.
    pub addresses_kb: u64,
    /// Open file descriptors.
    pub descriptors: u64,
}

impl Usage {
    /// Of this process.
    ///
    /// # Errors
    /// When it is gone.
    pub fn of(process: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        Ok(Self {
            resident_kb: field("VmRSS"),
            peak_kb: field("VmHWM"),
            addresses_kb: field("VmPeak"),
            descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count() as u64,
        })
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |kb: u64| kb as f64 / 1024.0;
        let (now, peak, addresses) = (mb(self.resident_kb), mb(self.peak_kb), mb(self.addresses_kb));
        write!(
            f,
            "{now:.0} MB now, {peak:.0} MB at most, {addresses:.0} MB of addresses, {} descriptors",
            self.descriptors
        )
    }
}
