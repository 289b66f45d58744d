//! What came of a batch's lines, as it comes: two files, of answers and of what went wrong, one line of JSON each. They are the
//! memory of a batch: whatever stands in them whole is done, and what a killed process left half written is cut off.
use crate::{
    error::Result,
    store::{Room, disk},
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long a line may be on its way to the disk.
const SYNC: Duration = Duration::from_secs(1);

/// Both files.
pub struct Journal {
    logs: [Log; 2],
    room: Room,
    synced: Instant,
}

struct Log {
    file: File,
    bytes: u64,
    lines: u64,
}

#[derive(Deserialize)]
struct Entry {
    custom_id: String,
}

/// What did not get into the journal.
pub enum Lost {
    /// There is no room.
    Full,
    /// The disk says no.
    Disk(io::Error),
}

impl Journal {
    /// Opens the files, made where they are missing; and which of the lines are done.
    pub fn open(paths: &[PathBuf; 2], ids: &HashMap<String, usize>, room: Room) -> io::Result<(Journal, Vec<bool>)> {
        let mut done = vec![false; ids.len()];
        let logs = [Log::open(&paths[0], ids, &mut done)?, Log::open(&paths[1], ids, &mut done)?];
        let mut journal = Journal { logs, room, synced: Instant::now() };
        journal.room.found(journal.logs.iter().map(|l| l.bytes).sum());
        Ok((journal, done))
    }

    /// Lines that have an answer, and those that have an error.
    pub fn lines(&self) -> [u64; 2] {
        self.logs.each_ref().map(|l| l.lines)
    }

    /// Writes what came of a line.
    pub fn append(&mut self, good: bool, text: &str) -> std::result::Result<(), Lost> {
        let grown: Result<()> = self.room.grow(text.len() as u64 + 1);
        grown.map_err(|_| Lost::Full)?;
        self.logs[usize::from(!good)].append(text).map_err(Lost::Disk)?;
        if self.synced.elapsed() > SYNC { self.sync().map_err(Lost::Disk) } else { Ok(()) }
    }

    /// Waits until all of it is on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        self.synced = Instant::now();
        self.logs.iter().try_for_each(|log| log.file.sync_data())
    }
}

impl Log {
    fn open(path: &Path, ids: &HashMap<String, usize>, done: &mut [bool]) -> io::Result<Log> {
        let mut file = disk::private().read(true).write(true).create(true).truncate(false).open(path)?;
        let (mut bytes, mut lines, mut text) = (0, 0, Vec::new());
        let mut reader = BufReader::new(&file);
        // What is no whole line, or none of this batch, was never written, and neither was what follows it.
        while let n @ 1.. = reader.read_until(b'\n', &mut text)? {
            let entry = serde_json::from_slice::<Entry>(&text).ok().filter(|_| text.ends_with(b"\n"));
            match entry.and_then(|e| ids.get(&e.custom_id)) {
                Some(i) if !done[*i] => done[*i] = true,
                _ => break,
            }
            (bytes, lines) = (bytes + n as u64, lines + 1);
            text.clear();
        }
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(Log { file, bytes, lines })
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        self.file.write_all(&[text.as_bytes(), b"\n"].concat())?;
        self.bytes += text.len() as u64 + 1;
        self.lines += 1;
        Ok(())
    }
}
