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

/// `2026-11-26T12:00:00Z`.
pub fn rfc3339(seconds: u64) -> String {
    // Days since 0000-03-01, in eras of 400 years, each of 146,097 days (H. Hinnant, "chrono-compatible low-level date algorithms").
    let days = seconds / 86400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (d, m) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let y = era * 400 + year + u64::from(m <= 2);
    let s = seconds % 86400;
    format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_their_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_711_111, "2026-11-26T16:38:31Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
