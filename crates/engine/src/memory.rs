//! What a model takes and what the machine has, before anything is allocated. Linux tells by files under `/proc`
//! and `/sys`; elsewhere nothing is known and nothing is refused.
use crate::{Error, Result, states::StateCounts};
use pondera_ops::Layout;
use std::fs;

/// What computing takes beside weights and caches: activations, tables, code.
const WORK: u64 = 64 << 20;

/// Bytes that running a model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights. Where they are mapped, the system may drop and read them again, at a cost of speed.
    pub weights_bytes: u64,
    /// KV cache of [`MemoryPlan::kv_tokens`] tokens, when all of it is in use.
    pub kv_bytes: u64,
    /// Tokens that the KV cache holds.
    pub kv_tokens: usize,
    /// Recurrent states of as many sequences as may run at once, of guesses and of snapshots, when all of them are there.
    pub states_bytes: u64,
    /// Adapters beside the model.
    pub adapters_bytes: u64,
    /// Estimate of everything else.
    pub work_bytes: u64,
    /// Physical memory, or the limit that this process runs under.
    pub limit_bytes: Option<u64>,
    /// What can be allocated now without swapping.
    pub available_bytes: Option<u64>,
}

impl MemoryPlan {
    /// The plan for `tokens` tokens of `per_token` bytes beside `weights` bytes, on this machine.
    pub(crate) fn new(weights: u64, per_token: u64, tokens: usize) -> MemoryPlan {
        let m = Machine::look();
        MemoryPlan {
            weights_bytes: weights,
            kv_bytes: per_token.saturating_mul(tokens as u64),
            kv_tokens: tokens,
            states_bytes: 0,
            adapters_bytes: 0,
            work_bytes: WORK,
            limit_bytes: m.limit,
            available_bytes: m.available,
        }
    }

    /// How many of `sequences` may run at once whose recurrent states take `bytes` each, and how many of the others may be
    /// there: states take no more than a quarter of the memory that is left, and one sequence always may.
    pub(crate) fn states(&self, sequences: usize, wanted: StateCounts, bytes: u64) -> (usize, StateCounts) {
        let room = self.kv_room_bytes().saturating_sub(self.kv_bytes) / 4;
        let most = room.checked_div(bytes).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let sequences = sequences.min(most.max(1));
        let trials = wanted.trials.min(most.saturating_sub(sequences));
        let snapshots = wanted.snapshots.min(most.saturating_sub(sequences + trials));
        (sequences, StateCounts { trials, snapshots })
    }

    /// On a machine of no more than so many bytes.
    pub(crate) fn within(self, memory: Option<u64>) -> MemoryPlan {
        MemoryPlan { limit_bytes: [self.limit_bytes, memory].into_iter().flatten().min(), ..self }
    }

    /// With adapters of so many bytes.
    pub(crate) fn with_adapters(self, bytes: u64) -> MemoryPlan {
        MemoryPlan { adapters_bytes: bytes, ..self }
    }

    /// With `count` states of `bytes` each.
    pub(crate) fn with_states(self, count: usize, bytes: u64) -> MemoryPlan {
        MemoryPlan { states_bytes: (count as u64).saturating_mul(bytes), ..self }
    }

    /// Both at once, at the same length.
    pub(crate) fn with(&self, other: &MemoryPlan) -> MemoryPlan {
        MemoryPlan {
            weights_bytes: self.weights_bytes.saturating_add(other.weights_bytes),
            kv_bytes: self.kv_bytes.saturating_add(other.kv_bytes),
            work_bytes: self.work_bytes.saturating_add(other.work_bytes),
            states_bytes: self.states_bytes.saturating_add(other.states_bytes),
            adapters_bytes: self.adapters_bytes.saturating_add(other.adapters_bytes),
            kv_tokens: other.kv_tokens,
            ..*other
        }
    }

    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        let beside = [self.kv_bytes, self.states_bytes, self.adapters_bytes, self.work_bytes];
        beside.iter().fold(self.weights_bytes, |n, b| n.saturating_add(*b))
    }

    /// Bytes that are left for a KV cache.
    pub fn kv_room_bytes(&self) -> u64 {
        let by_limit = self.limit_bytes.map(|l| l.saturating_sub(self.weights_bytes));
        let least = [by_limit, self.available_bytes].into_iter().flatten().min();
        least.map_or(u64::MAX, |b| b.saturating_sub(self.work_bytes))
    }

    /// The layout `wanted`, unless memory is too short for weights to move from their files' pages, which the system can
    /// drop and read again, into memory of our own.
    pub(crate) fn layout(&self, wanted: Layout) -> Layout {
        match self.available_bytes {
            Some(available) if self.total_bytes() > available && wanted != Layout::Mapped => {
                let needed = self.total_bytes();
                tracing::warn!(needed, available, "memory is short: weights stay in their files, which is slower");
                Layout::Mapped
            }
            _ => wanted,
        }
    }

    /// Whether the machine can hold it: everything within its limit, and what must be allocated within what is free.
    pub fn check(&self) -> Result<()> {
        if let Some(limit) = self.limit_bytes.filter(|l| *l < self.total_bytes()) {
            let what = format!("the model with {} tokens of context", self.kv_tokens);
            return Err(Error::does_not_fit(&what, self.total_bytes(), limit)
                .hint("take a smaller context or a smaller quantization of the model"));
        }
        let own = self.kv_bytes.saturating_add(self.work_bytes).saturating_add(self.adapters_bytes);
        match self.available_bytes {
            Some(free) if own > free => {
                let what = format!("a KV cache of {} tokens", self.kv_tokens);
                Err(Error::does_not_fit(&what, own, free).hint("take a smaller context, or end other programs"))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes that this process may still take; none where the system does not say.
pub fn available_bytes() -> Option<u64> {
    Machine::look().available
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Machine {
    limit: Option<u64>,
    available: Option<u64>,
}

impl Machine {
    fn look() -> Machine {
        let read = |p: &str| fs::read_to_string(p).unwrap_or_default();
        let info = read("/proc/meminfo");
        let mut m = Machine { limit: kilobytes(&info, "MemTotal"), available: kilobytes(&info, "MemAvailable") };
        if let Some(address_space) = soft_limit(&read("/proc/self/limits"), "Max address space") {
            m.narrow(address_space, address_space);
        }
        for folder in group_folders(&read("/proc/self/cgroup")) {
            let number = |name: &str| read(&format!("{folder}/{name}")).trim().parse::<u64>().ok();
            let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"));
            let Some(limit) = limit else { continue };
            let used = number("memory.current").or_else(|| number("memory.usage_in_bytes")).unwrap_or(0);
            // Cached files count as used but give way.
            let cached = field(&read(&format!("{folder}/memory.stat")), "inactive_file").unwrap_or(0);
            m.narrow(limit, limit.saturating_sub(used.saturating_sub(cached)));
        }
        m
    }

    fn narrow(&mut self, limit: u64, available: u64) {
        let least = |a: Option<u64>, b: u64| Some(a.map_or(b, |a| a.min(b)));
        (self.limit, self.available) = (least(self.limit, limit), least(self.available, available));
    }
}

/// The folders of this process's control group and of those above it, version 2 and 1.
fn group_folders(cgroup: &str) -> Vec<String> {
    let mut folders = Vec::new();
    for line in cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            c if c.split(',').any(|c| c == "memory") => "/sys/fs/cgroup/memory",
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            folders.push(format!("{root}{path}"));
            match path.rfind('/') {
                Some(at) => path = &path[..at],
                None => break,
            }
        }
    }
    folders
}

/// `Name:   123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// `name 123`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

/// The first number behind `name`; none where it says `unlimited`.
fn soft_limit(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_files_of_linux_are_understood() {
        let info = "MemTotal:       24602348 kB\nMemFree: 1 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(kilobytes(info, "MemTotal"), Some(24_602_348 * 1024));
        assert_eq!(kilobytes(info, "MemAvailable"), Some(23_000_000 * 1024));
        assert_eq!(kilobytes("", "MemTotal"), None);
        let limits = "Max address space         4294967296           unlimited            bytes\n";
        assert_eq!(soft_limit(limits, "Max address space"), Some(1 << 32));
        assert_eq!(soft_limit("Max address space  unlimited  unlimited bytes", "Max address space"), None);
        assert_eq!(field("anon 1\ninactive_file 77\n", "inactive_file"), Some(77));
        let groups = group_folders("0::/a/b\n5:cpu,memory:/m\n6:cpu:/x\n");
        let want = ["/a/b", "/a", ""].map(|p| format!("/sys/fs/cgroup{p}"));
        assert_eq!(groups[..3], want);
        assert_eq!(groups[3..], ["/m", ""].map(|p| format!("/sys/fs/cgroup/memory{p}")));
    }

    #[test]
    fn what_does_not_fit_says_how_much_it_needs() {
        let plan = |limit, available| MemoryPlan {
            weights_bytes: 1000,
            kv_bytes: 500,
            kv_tokens: 64,
            states_bytes: 0,
            adapters_bytes: 0,
            work_bytes: 10,
            limit_bytes: limit,
            available_bytes: available,
        };
        assert!(plan(None, None).check().is_ok());
        assert!(plan(Some(1510), Some(510)).check().is_ok());
        let kind = |p: MemoryPlan| p.check().unwrap_err().kind().clone();
        assert_eq!(kind(plan(Some(1509), None)), ErrorKind::DoesNotFit { needed: 1510, available: 1509 });
        assert_eq!(kind(plan(Some(9999), Some(509))), ErrorKind::DoesNotFit { needed: 510, available: 509 });
        assert_eq!(plan(Some(1300), Some(700)).kv_room_bytes(), 290);
        let layout = |available| plan(None, available).layout(Layout::Auto);
        assert_eq!([None, Some(1510), Some(1509)].map(layout), [Layout::Auto, Layout::Auto, Layout::Mapped]);
    }
}
