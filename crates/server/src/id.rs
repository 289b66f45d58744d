//! Names of requests and answers: random, so that nobody guesses another's.
use std::time::{SystemTime, UNIX_EPOCH};

/// `{prefix}` and 24 random hexadecimal digits.
pub fn random(prefix: &str) -> String {
    let mut bytes = [0u8; 12];
    // Without randomness from the system, names are still distinct enough for logs.
    if getrandom::fill(&mut bytes).is_err() {
        bytes[..8].copy_from_slice(&now_ns().to_le_bytes());
    }
    bytes.iter().fold(prefix.to_string(), |text, b| text + &format!("{b:02x}"))
}

/// A seed for a request that names none.
pub fn seed() -> u64 {
    let mut bytes = [0u8; 8];
    if getrandom::fill(&mut bytes).is_err() {
        return now_ns();
    }
    u64::from_le_bytes(bytes)
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
