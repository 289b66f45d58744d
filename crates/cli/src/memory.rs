//! How much memory this process has taken, as the system counts it.

/// Most resident bytes so far; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    #[cfg(unix)]
    if let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) {
        // macOS counts bytes, the others KiB.
        let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
        return u64::try_from(usage.max_rss()).unwrap_or(0) * unit;
    }
    0
}
