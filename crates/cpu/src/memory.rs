//! Memory of packed weights: large regions in huge pages where the system grants them, handed out once and given back
//! together.
use std::sync::{Mutex, PoisonError};

/// A huge page, and what regions begin at.
const HUGE: usize = 2 << 20;
/// The first region; each further one is twice as large.
const FIRST: usize = 16 << 20;
/// The largest, unless one piece takes more.
const LARGEST: usize = 256 << 20;
/// Where pieces begin: a line of the cache.
const ALIGN: usize = 64;

/// Regions of memory. Pages are taken when they are first written.
#[derive(Default)]
pub struct Memory(Mutex<Vec<Region>>);

struct Region {
    start: *mut u8,
    len: usize,
    used: usize,
}

// SAFETY: plain memory that this value owns; who uses a piece is the business of whoever took it.
unsafe impl Send for Region {}

impl Memory {
    /// `bytes` bytes of zeros that nobody else has, at a multiple of 64, valid as long as this value; `None` where the
    /// system grants no more.
    pub fn take(&self, bytes: usize) -> Option<*mut u8> {
        let bytes = bytes.checked_next_multiple_of(ALIGN)?;
        let mut regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !regions.iter().any(|r| r.len - r.used >= bytes) {
            let wanted = bytes.max(LARGEST.min(FIRST << regions.len().min(8))).checked_next_multiple_of(HUGE)?;
            // Where address space is short, no more than this piece.
            let exact = bytes.checked_next_multiple_of(HUGE)?;
            let (start, len) = [wanted, exact].into_iter().find_map(|n| Some((sys::map(n, HUGE)?, n)))?;
            regions.push(Region { start, len, used: 0 });
        }
        let region = regions.iter_mut().find(|r| r.len - r.used >= bytes)?;
        // SAFETY: within the region.
        let piece = unsafe { region.start.add(region.used) };
        region.used += bytes;
        Some(piece)
    }
}

impl Memory {
    /// What was handed out, region by region: start and length.
    pub fn used(&self) -> Vec<(*const u8, usize)> {
        let regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        regions.iter().map(|r| (r.start.cast_const(), r.used)).collect()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped with this length; pieces are not used beyond their memory's life.
        unsafe { sys::unmap(self.start, self.len, HUGE) };
    }
}

#[cfg(unix)]
mod sys {
    use std::{ffi::c_void, ptr};

    /// `len` bytes of zeros that begin at a multiple of `align`, a multiple of the page.
    pub(super) fn map(len: usize, align: usize) -> Option<*mut u8> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
        let all = len.checked_add(align)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), all, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = start.cast::<u8>();
        let before = start.align_offset(align);
        // SAFETY: what lies before and behind the aligned part of the mapping just made.
        unsafe {
            let first = start.add(before);
            cut(start, before);
            cut(first.add(len), align - before);
            #[cfg(target_os = "linux")]
            prepare(first, len);
            Some(first)
        }
    }

    /// Asks for huge pages; where memory has several nodes, pages alternate between them, since any thread may come to
    /// read any row. Hints: without them all is the same but slower.
    ///
    /// # Safety
    /// The caller's own fresh pages.
    #[cfg(target_os = "linux")]
    unsafe fn prepare(start: *mut u8, len: usize) {
        // SAFETY: the caller's pages, which hold nothing yet; the mask is valid for its 64 bits.
        unsafe {
            libc::madvise(start.cast::<c_void>(), len, libc::MADV_HUGEPAGE);
            let nodes = crate::pool::memory_nodes();
            if nodes.count_ones() > 1 {
                // The kernel reads one bit less than it is told.
                libc::syscall(libc::SYS_mbind, start, len, libc::MPOL_INTERLEAVE, &raw const nodes, 65, 0);
            }
        }
    }

    unsafe fn cut(start: *mut u8, len: usize) {
        if len > 0 {
            // SAFETY: the caller's own pages.
            unsafe { libc::munmap(start.cast::<c_void>(), len) };
        }
    }

    pub(super) unsafe fn unmap(start: *mut u8, len: usize, _: usize) {
        // SAFETY: the caller's own pages.
        unsafe { cut(start, len) };
    }
}

#[cfg(not(unix))]
mod sys {
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    pub(super) fn map(len: usize, align: usize) -> Option<*mut u8> {
        let layout = Layout::from_size_align(len, align).ok()?;
        // SAFETY: not of size zero.
        Some(unsafe { alloc_zeroed(layout) }).filter(|p| !p.is_null())
    }

    pub(super) unsafe fn unmap(start: *mut u8, len: usize, align: usize) {
        let layout = Layout::from_size_align(len, align).expect("as it was made");
        // SAFETY: made with this layout.
        unsafe { dealloc(start, layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_zero_and_apart() {
        let memory = Memory::default();
        let sizes = [1, 64, 5000, FIRST, 3 * HUGE + 1, 100];
        let pieces: Vec<(*mut u8, usize)> = sizes.iter().map(|n| (memory.take(*n).unwrap(), *n)).collect();
        for (i, (p, n)) in pieces.iter().enumerate() {
            assert!(p.addr().is_multiple_of(ALIGN));
            // SAFETY: taken above, not used otherwise.
            let piece = unsafe { std::slice::from_raw_parts_mut(*p, *n) };
            assert!(piece.iter().all(|b| *b == 0), "piece {i} was written by another");
            piece.fill(i as u8 + 1);
        }
        assert!(memory.take(usize::MAX - 5).is_none() && memory.take(usize::MAX / 2).is_none());
    }
}
