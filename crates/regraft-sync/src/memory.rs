//! The memory of this process, as the system tells it.

/// The memory that this process has now, in bytes; 0 where the system doesn't tell.
pub(crate) fn resident() -> u64 {
    field("VmRSS:")
}

/// The most memory that this process has had since [`forget_peak`], in bytes; 0 where the system
/// doesn't tell.
pub(crate) fn peak() -> u64 {
    field("VmHWM:")
}

/// Measures the most anew, so that it is that of the run which begins. Where the system doesn't have
/// it, the most is that of the whole process.
pub(crate) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn field(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
