//! What a process has used, from Linux's /proc.

/// Processor time of all its threads so far, in seconds. The kernel counts in hundredths.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    (field(process, 11) + field(process, 12)) / 100.0
}

/// A number of `/proc/PID/stat`, counted from the state of the process.
fn field(process: u32, at: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field may hold spaces; it ends with the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(at).and_then(|field| field.parse().ok()).unwrap_or(f64::NAN)
}

/// The same with its children, those that have ended too.
pub(crate) fn cpu_seconds_of_family(process: u32) -> f64 {
    let children = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = children.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = children.filter(|child| field(*child, 1) as u32 == process).map(cpu_seconds).sum::<f64>();
    own + cpu_seconds(process) + (field(process, 13) + field(process, 14)) / 100.0
}

/// Its resident size, in MB.
pub(crate) fn resident_mb(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// The load of the machine over the last minute.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
