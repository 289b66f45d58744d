//! Mapped files, and the guard that lets a process survive a file that shrinks under its mapping. The only
//! unsafe code of this crate.
//!
//! Reading a page of a mapping behind the end of its file raises SIGBUS. The guard's handler maps zeros from that
//! page to the mapping's end and marks the mapping damaged; whoever reads weights looks at [`Mapping::damaged`]
//! afterwards and fails the request. Faults at other addresses go to the handler that was there before.
//!
//! Where there is no `mmap`, files are read into memory.
use crate::{Error, error::Result, error::unsupported};
use pondera_quant::Owner;
use std::{
    fs::{File, Metadata},
    ops::Range,
    path::Path,
    time::SystemTime,
};

/// How a range of a mapping will be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Soon: start reading.
    WillNeed,
    /// From front to back: read ahead.
    Sequential,
    /// Not soon: its pages may go.
    DontNeed,
}

/// A file's bytes, shared with the page cache, read-only.
///
/// Another process that writes to the file changes what is read here; [`Mapping::damaged`] tells.
pub struct Mapping {
    pages: sys::Pages,
    file: File,
    stamp: Stamp,
}

/// What changes when a file is written to.
#[derive(PartialEq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(m: &Metadata) -> Stamp {
        Stamp { len: m.len(), modified: m.modified().ok() }
    }
}

impl Mapping {
    /// Maps the regular file at `path`.
    pub fn open(path: &Path) -> Result<Mapping> {
        // Asked before opening: opening a pipe would block.
        let regular = std::fs::metadata(path).map_err(|e| Error::io(path, &e))?.is_file();
        if !regular {
            return Err(unsupported("not a regular file").at(path));
        }
        let file = File::open(path).map_err(|e| Error::io(path, &e))?;
        let stamp = Stamp::of(&file.metadata().map_err(|e| Error::io(path, &e))?);
        let len = usize::try_from(stamp.len).map_err(|_| unsupported("larger than the address space").at(path))?;
        let pages = sys::Pages::new(&file, len).map_err(|e| Error::io(path, &e))?;
        Ok(Mapping { pages, file, stamp })
    }

    /// Whether bytes read from here may be wrong: a read met the end of a file that was cut, or the file has
    /// another length or time of modification than when it was mapped. One `fstat`, no lock.
    pub fn damaged(&self) -> bool {
        self.pages.damaged() || self.file.metadata().map_or(true, |m| Stamp::of(&m) != self.stamp)
    }

    /// Tells the system how bytes `range` will be used. A hint: never an error.
    pub fn advise(&self, range: Range<usize>, advice: Advice) {
        self.pages.advise(range, advice);
    }
}

impl Owner for Mapping {
    fn bytes(&self) -> &[u8] {
        self.pages.bytes()
    }

    fn intact(&self) -> bool {
        !self.damaged()
    }

    fn forget(&self, range: Range<usize>) {
        self.advise(range, Advice::DontNeed);
    }
}

#[cfg(unix)]
mod sys {
    use super::Advice;
    use std::{
        ffi::{c_int, c_void},
        fs::File,
        io,
        ops::Range,
        os::fd::AsRawFd,
        ptr,
        sync::{
            OnceLock,
            atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*},
        },
    };

    /// A live mapping as the signal handler sees it. Slots are never freed, only used again, so that the handler
    /// can walk them at any time without a lock.
    struct Slot {
        /// First address; `FREE` or `TAKEN` where there is no mapping.
        start: AtomicUsize,
        len: AtomicUsize,
        damaged: AtomicBool,
        next: AtomicPtr<Slot>,
    }

    const FREE: usize = 0;
    const TAKEN: usize = 1; // no mapping starts at address 1

    static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());
    static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

    fn slots() -> impl Iterator<Item = &'static Slot> {
        let mut at = SLOTS.load(Acquire);
        std::iter::from_fn(move || {
            // SAFETY: the list holds null or leaked boxes, published with release ordering.
            let slot: &'static Slot = unsafe { at.as_ref() }?;
            at = slot.next.load(Acquire);
            Some(slot)
        })
    }

    impl Slot {
        fn register(start: usize, len: usize) -> &'static Slot {
            let reused = slots().find(|s| s.start.compare_exchange(FREE, TAKEN, AcqRel, Relaxed).is_ok());
            let slot = reused.unwrap_or_else(Slot::grow);
            slot.len.store(len, Release);
            slot.damaged.store(false, Release);
            slot.start.store(start, Release);
            slot
        }

        fn grow() -> &'static Slot {
            let slot: &'static mut Slot = Box::leak(Box::new(Slot {
                start: AtomicUsize::new(TAKEN),
                len: AtomicUsize::new(0),
                damaged: AtomicBool::new(false),
                next: AtomicPtr::new(ptr::null_mut()),
            }));
            let this: *mut Slot = slot;
            let mut head = SLOTS.load(Acquire);
            loop {
                // SAFETY: `this` is a leaked box; before it is published below, nobody else knows it.
                unsafe { (*this).next.store(head, Release) };
                match SLOTS.compare_exchange_weak(head, this, AcqRel, Acquire) {
                    // SAFETY: leaked, hence valid for ever; from here on only shared references exist.
                    Ok(_) => return unsafe { &*this },
                    Err(now) => head = now,
                }
            }
        }
    }

    fn page_size() -> usize {
        static SIZE: OnceLock<usize> = OnceLock::new();
        // SAFETY: sysconf has no preconditions.
        *SIZE.get_or_init(|| usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096))
    }

    /// Maps zeros from the faulting page to the end of the mapping that holds `address`; false if none does.
    ///
    /// To the end and not one page only: behind a cut everything is gone, and one piece costs one entry in the
    /// kernel's limited table of mappings, not one a page.
    fn repair(address: usize) -> bool {
        let page = page_size();
        for slot in slots() {
            let start = slot.start.load(Acquire);
            let len = slot.len.load(Acquire);
            let inside = start > TAKEN && address.checked_sub(start).is_some_and(|offset| offset < len);
            // Read again: a slot that was given back and reused in between is none of ours.
            if !inside || slot.start.load(Acquire) != start {
                continue;
            }
            let first = address - address % page;
            slot.damaged.store(true, Release);
            // SAFETY: the range lies in a live mapping of ours (its owner is reading it, hence not dropped), which
            // is replaced in place by readable zeros; `mmap` is a bare system call, safe in a signal handler.
            let zeros = unsafe {
                libc::mmap(
                    first as *mut c_void,
                    start + len - first,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            return zeros != libc::MAP_FAILED;
        }
        false
    }

    extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel hands a valid siginfo to a SA_SIGINFO handler.
        let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
        // A positive code is a fault; others were sent by a process and carry no address.
        if code > 0 && repair(address) {
            return;
        }
        let previous = PREVIOUS.load(Acquire);
        // SAFETY: PREVIOUS was set before this handler was installed, to a leaked box.
        let handler = unsafe { (*previous).sa_sigaction };
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            // SAFETY: restores what was there; the faulting instruction runs again and ends the process as it
            // would have without this guard.
            unsafe { libc::sigaction(signal, previous, ptr::null_mut()) };
            return;
        }
        // SAFETY: `handler` is the function that another part of the process registered, called with the signature
        // that its flags promise.
        unsafe {
            if (*previous).sa_flags & libc::SA_SIGINFO != 0 {
                let f: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = std::mem::transmute(handler);
                f(signal, info, context);
            } else {
                let f: extern "C" fn(c_int) = std::mem::transmute(handler);
                f(signal);
            }
        }
    }

    /// Installs the handler, once a process.
    fn install() -> io::Result<()> {
        static INSTALLED: OnceLock<Option<i32>> = OnceLock::new();
        let failed = INSTALLED.get_or_init(|| {
            page_size(); // so that the handler only reads it
            // SAFETY: zeroed is a valid sigaction; both calls get valid pointers; the handler does nothing that is
            // unsafe in a signal context.
            unsafe {
                let previous: &'static mut libc::sigaction = Box::leak(Box::new(std::mem::zeroed()));
                if libc::sigaction(libc::SIGBUS, ptr::null(), previous) != 0 {
                    return io::Error::last_os_error().raw_os_error();
                }
                PREVIOUS.store(previous, Release);
                let mut action: libc::sigaction = std::mem::zeroed();
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
                action.sa_sigaction = handler as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                if libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) != 0 {
                    return io::Error::last_os_error().raw_os_error();
                }
            }
            None
        });
        failed.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }

    /// The pages of one file.
    pub(super) struct Pages {
        /// `None` for an empty file, which cannot be mapped.
        mapped: Option<(*const u8, &'static Slot)>,
        len: usize,
    }

    // SAFETY: the pages are read-only memory that lives as long as this value, whichever thread holds it.
    unsafe impl Send for Pages {}
    // SAFETY: as above; shared reads of read-only memory.
    unsafe impl Sync for Pages {}

    impl Pages {
        pub(super) fn new(file: &File, len: usize) -> io::Result<Pages> {
            if len == 0 {
                return Ok(Pages { mapped: None, len });
            }
            install()?;
            // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
            let start =
                unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
            if start == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            Ok(Pages { mapped: Some((start.cast(), Slot::register(start as usize, len))), len })
        }

        pub(super) fn bytes(&self) -> &[u8] {
            match self.mapped {
                // SAFETY: `len` readable bytes from `start` stay mapped until drop. Pages behind a shrunk file's
                // end become zeros by the guard.
                Some((start, _)) => unsafe { std::slice::from_raw_parts(start, self.len) },
                None => &[],
            }
        }

        pub(super) fn damaged(&self) -> bool {
            self.mapped.is_some_and(|(_, slot)| slot.damaged.load(Acquire))
        }

        pub(super) fn advise(&self, range: Range<usize>, advice: Advice) {
            let Some((start, _)) = self.mapped else { return };
            let end = range.end.min(self.len);
            let first = range.start - range.start % page_size();
            if first >= end {
                return;
            }
            let advice = match advice {
                Advice::WillNeed => libc::MADV_WILLNEED,
                Advice::Sequential => libc::MADV_SEQUENTIAL,
                Advice::DontNeed => libc::MADV_DONTNEED,
            };
            // SAFETY: the range lies in our mapping; on a shared file mapping none of these changes what is read.
            // After a repair the tail is anonymous zeros, and zeros stay zeros.
            unsafe { libc::madvise(start.add(first) as *mut c_void, end - first, advice) };
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            let Some((start, slot)) = self.mapped else { return };
            slot.start.store(FREE, Release);
            // SAFETY: ours, and no reference outlives this value.
            unsafe { libc::munmap(start as *mut c_void, self.len) };
        }
    }
}

#[cfg(not(unix))]
mod sys {
    use super::Advice;
    use std::{
        fs::File,
        io::{self, Read},
        ops::Range,
    };

    /// The bytes of one file, read into memory.
    pub(super) struct Pages(Vec<u8>);

    impl Pages {
        pub(super) fn new(mut file: &File, len: usize) -> io::Result<Pages> {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
            file.read_to_end(&mut bytes)?;
            Ok(Pages(bytes))
        }

        pub(super) fn bytes(&self) -> &[u8] {
            &self.0
        }

        pub(super) fn damaged(&self) -> bool {
            false
        }

        pub(super) fn advise(&self, _: Range<usize>, _: Advice) {}
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("pondera-mmap-{}-{name}", std::process::id()));
        File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    #[test]
    fn a_file_truncated_while_mapped_reads_as_zeros_and_is_flagged() {
        let path = file("cut", &[7u8; 1 << 20]);
        let other = file("whole", &[9u8; 1 << 16]);
        let (cut, whole) = (Mapping::open(&path).unwrap(), Mapping::open(&other).unwrap());
        assert!(cut.bytes().iter().all(|&b| b == 7) && !cut.damaged());
        File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        // Several threads meet the missing pages at once.
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| assert_eq!(cut.bytes()[4096..].iter().map(|&b| u64::from(b)).sum::<u64>(), 0));
            }
        });
        assert_eq!(cut.bytes()[..100], [7; 100]);
        assert!(cut.pages.damaged() && cut.damaged());
        assert!(whole.bytes().iter().all(|&b| b == 9) && !whole.damaged());
        cut.advise(0..usize::MAX, Advice::DontNeed);
        assert!(cut.bytes()[4096..].iter().all(|&b| b == 0));
        drop(cut);
        // A slot that is used again starts sound.
        let again = Mapping::open(&other).unwrap();
        assert!(!again.damaged() && again.bytes()[5] == 9);
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(other).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn forgotten_pages_leave_memory_and_read_the_same_again() {
        let path = file("forget", &[5u8; 1 << 20]);
        let map = std::sync::Arc::new(Mapping::open(&path).unwrap());
        let bytes = pondera_quant::Bytes::new(map.clone());
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let head = format!("{:x}-", map.bytes().as_ptr() as usize);
            let mine = text.split_once(&head).unwrap().1;
            mine.lines()
                .find_map(|l| l.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.parse::<usize>().ok())
                .unwrap()
        };
        let sum = || bytes.as_slice().iter().map(|b| usize::from(*b)).sum::<usize>();
        assert_eq!(sum(), 5 << 20);
        assert_eq!(resident(), 1024);
        bytes.slice(5000..bytes.len()).unwrap().forget(0..usize::MAX);
        assert!(resident() <= 4, "{} kB", resident());
        assert!(sum() == 5 << 20 && bytes.intact());
        File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        assert!(!bytes.intact());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_rewritten_in_place_is_flagged_and_a_renamed_one_is_not() {
        let (path, new) = (file("old", b"old bytes"), file("new", b"new bytes!"));
        let map = Mapping::open(&path).unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert!(map.bytes() == b"old bytes" && !map.damaged());
        let map = Mapping::open(&path).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        assert!(map.damaged());
        std::fs::remove_file(path).unwrap();
    }

    /// Runs in a process of its own, see below.
    #[test]
    #[ignore = "ends its process"]
    fn dies_of_a_foreign_fault() {
        let path = file("foreign", &[1; 8192]);
        let own = Mapping::open(&path).unwrap();
        let foreign = File::open(&path).unwrap();
        // SAFETY: a mapping of another part of the process: the guard knows nothing of it.
        let start = unsafe {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&foreign);
            libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ, libc::MAP_SHARED, fd, 0).cast::<u8>()
        };
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(own.bytes()[0], 0);
        // SAFETY: mapped above; the file's end lies before it, so that this faults.
        let value = unsafe { start.read_volatile() };
        panic!("read {value} behind the end of a foreign file");
    }

    #[test]
    fn a_foreign_fault_is_handed_on() {
        use std::os::unix::process::ExitStatusExt;
        let this = std::env::current_exe().unwrap();
        let arguments = ["--ignored", "--exact", "mmap::tests::dies_of_a_foreign_fault"];
        let status = std::process::Command::new(this).args(arguments).output().unwrap().status;
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{status:?}");
    }

    #[test]
    fn empty_files_and_folders() {
        let path = file("empty", b"");
        assert!(Mapping::open(&path).unwrap().bytes().is_empty());
        Mapping::open(&path).unwrap().advise(0..10, Advice::WillNeed);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Mapping::open(&path).err().unwrap().kind(), crate::ErrorKind::NotFound);
        assert_eq!(Mapping::open(&std::env::temp_dir()).err().unwrap().kind(), crate::ErrorKind::Unsupported);
    }
}
