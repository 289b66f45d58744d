//! The process's own heap. Where the system's allocator keeps what was freed for itself, a server that was once busy stays large
//! for ever; it is told to give memory back.

/// Heaps between which threads are divided: what one has free no other can use.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 2;
/// Bytes of an allocation from which on it is apart and goes back when it is freed, whatever was freed before.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const APART: i32 = 1 << 20;
/// Free bytes at the end of a heap that are kept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 4 << 20;

/// Sets the allocator up for a process that runs for long with many threads. To be called before there are any. Does nothing
/// where the allocator is another than glibc's.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (name, value) in [(libc::M_ARENA_MAX, HEAPS), (libc::M_MMAP_THRESHOLD, APART), (libc::M_TRIM_THRESHOLD, KEPT)] {
        // SAFETY: takes two numbers and changes settings of the allocator, under its own lock.
        let _ = unsafe { libc::mallopt(name, value) };
    }
}
