//! Zip archives as PyTorch writes them: entries stored without compression, read where they lie.
//!
//! The central directory is what counts; the local headers must agree with it. Zip64 is read; compressed or
//! encrypted entries are listed and refused when their bytes are asked for.
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>
use crate::{
    bounded::Reader,
    error::{Result, invalid, quoted, unsupported},
    tensor::TENSORS_MAX,
};
use std::ops::Range;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: [u8; 4] = *b"PK\x05\x06";
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
/// The end record without its comment, and with the longest one.
const END_MIN: usize = 22;
const END_MAX: usize = END_MIN + 0xffff;

/// A member of an archive.
#[derive(Debug)]
pub struct Entry {
    /// Its path in the archive.
    pub name: Box<str>,
    /// Where its stored bytes lie in the file.
    pub range: Range<usize>,
    /// Where its local header begins.
    pub header: usize,
    /// Bytes that it says to have once unpacked; [`Entry::range`] covers the packed ones.
    pub unpacked: u64,
    /// Whether its bytes are deflated and nothing else: [`Entry::bytes`] refuses them, who can inflate them may.
    pub deflated: bool,
    /// Why its bytes cannot be read in place.
    refused: Option<&'static str>,
}

impl Entry {
    /// Its bytes; errors where they are compressed or encrypted.
    pub fn bytes<'a>(&self, file: &'a [u8]) -> Result<&'a [u8]> {
        match self.refused {
            Some(why) => Err(unsupported(format!("archive member is {why}")).of(&self.name)),
            None => file.get(self.range.clone()).ok_or_else(|| invalid("archive member is cut off").of(&self.name)),
        }
    }
}

/// Whether `bytes` begin like an archive with members.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    Reader::new(bytes).u32().is_ok_and(|magic| magic == LOCAL)
}

/// All members of the archive, sorted by name: inside the file, disjoint, each name once.
pub fn parse(file: &[u8]) -> Result<Vec<Entry>> {
    let directory = find_directory(file)?;
    let mut r = Reader::new(file.get(..directory.end).unwrap_or(file));
    r.take(directory.start as u64)?;
    // A central header takes 46 bytes at least.
    if directory.count > (r.left() as u64) / 46 {
        return Err(invalid(format!("archive of {} members, but only {} bytes list them", directory.count, r.left())));
    }
    if directory.count > TENSORS_MAX as u64 {
        return Err(unsupported(format!("archive of more than {TENSORS_MAX} members")));
    }
    let mut entries = Vec::new();
    for _ in 0..directory.count {
        entries.push(central(&mut r, file, directory.start)?);
    }
    entries.sort_by_key(|e| (e.range.start, e.range.end));
    if let Some(w) = entries.windows(2).find(|w| w[1].range.start < w[0].range.end) {
        return Err(invalid(format!("overlaps the archive member {}", quoted(&w[0].name))).of(&w[1].name));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    match entries.windows(2).find(|w| w[0].name == w[1].name) {
        Some(twice) => Err(invalid("the archive has two members of this name").of(&twice[0].name)),
        None => Ok(entries),
    }
}

struct Directory {
    start: usize,
    end: usize,
    count: u64,
}

fn find_directory(file: &[u8]) -> Result<Directory> {
    let tail = file.len().saturating_sub(END_MAX);
    let window = file.get(tail..).unwrap_or(&[]);
    // The record whose comment reaches exactly to the file's end; a comment could hold the magic bytes.
    let ends_here = |at: &usize| {
        let mut r = Reader::starting(window, at + END_MIN - 2);
        r.u16().is_ok_and(|comment| usize::from(comment) == r.left())
    };
    let positions = window.windows(4).enumerate().rev().filter(|(_, w)| *w == END).map(|(at, _)| at);
    let at = positions.take(END_MAX).find(ends_here).ok_or_else(|| invalid("archive without a directory: cut off"))?;
    let mut r = Reader::starting(window, at + 4);
    let (disk, first_disk, here, count) = (r.u16()?, r.u16()?, r.u16()?, r.u16()?);
    let (size, start) = (r.u32()?, r.u32()?);
    let end = tail + at;
    if count == u16::MAX || size == u32::MAX || start == u32::MAX {
        return directory64(file, end);
    }
    if disk != 0 || first_disk != 0 || here != count {
        return Err(unsupported("archive of several volumes"));
    }
    directory(u64::from(start), u64::from(size), u64::from(count), end)
}

fn directory64(file: &[u8], end: usize) -> Result<Directory> {
    let locator = end.checked_sub(20).ok_or_else(|| invalid("zip64 archive without a locator"))?;
    let mut r = Reader::starting(file, locator);
    if r.u32()? != LOCATOR64 || r.u32()? != 0 {
        return Err(invalid("zip64 archive without a locator"));
    }
    let at = usize::try_from(r.u64()?).ok().filter(|&at| at < locator);
    let at = at.ok_or_else(|| invalid("zip64 directory record lies outside of the file"))?;
    let mut r = Reader::starting(file, at);
    let (magic, _size, _versions, disk, first_disk) = (r.u32()?, r.u64()?, r.u32()?, r.u32()?, r.u32()?);
    let (here, count, size, start) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
    if magic != END64 || disk != 0 || first_disk != 0 || here != count {
        return Err(invalid("zip64 directory record is damaged"));
    }
    directory(start, size, count, at)
}

fn directory(start: u64, size: u64, count: u64, end_max: usize) -> Result<Directory> {
    let end = start.checked_add(size).filter(|&end| end <= end_max as u64);
    match (usize::try_from(start), end.map(usize::try_from)) {
        (Ok(start), Some(Ok(end))) => Ok(Directory { start, end, count }),
        _ => Err(invalid(format!("archive directory at {start} of {size} bytes lies outside of the file"))),
    }
}

/// One header of the central directory, and the local header that it points to.
fn central(r: &mut Reader, file: &[u8], data_end: usize) -> Result<Entry> {
    if r.u32()? != CENTRAL {
        return Err(invalid("archive directory is damaged"));
    }
    let (_versions, flags, method, _time, _crc) = (r.u32()?, r.u16()?, r.u16()?, r.u32()?, r.u32()?);
    let (packed, size) = (r.u32()?, r.u32()?);
    let (name_len, extra_len, comment_len) = (r.u16()?, r.u16()?, r.u16()?);
    let (_disk, _internal, _external, local) = (r.u16()?, r.u16()?, r.u32()?, r.u32()?);
    let name = std::str::from_utf8(r.take(name_len.into())?).map_err(|_| invalid("archive member name: not UTF-8"))?;
    let extra = r.take(extra_len.into())?;
    r.take(comment_len.into())?;
    let read = || {
        let [size, packed, local] = widen([size, packed, local], extra)?;
        let data = local_data(file, local, name)?;
        let end = usize::try_from(packed).ok().and_then(|n| data.checked_add(n)).filter(|&end| end <= data_end);
        let end = end.ok_or_else(|| invalid(format!("{packed} bytes reach past the archive's data")))?;
        let refused = match (flags & 1, method) {
            (1, _) => Some("encrypted"),
            (_, 0) if size != packed => return Err(invalid("a stored member's two sizes differ")),
            (_, 0) => None,
            _ => Some("compressed"),
        };
        let header = usize::try_from(local).unwrap_or(data);
        let deflated = flags & 1 == 0 && method == 8;
        Ok(Entry { name: name.into(), range: data..end, header, unpacked: size, deflated, refused })
    };
    read().map_err(|e| e.of(name))
}

/// Size, packed size and offset, from the zip64 field where they do not fit 32 bits.
fn widen(short: [u32; 3], extra: &[u8]) -> Result<[u64; 3]> {
    let mut wide = short.map(u64::from);
    if !short.contains(&u32::MAX) {
        return Ok(wide);
    }
    let mut r = Reader::new(extra);
    while r.left() > 0 {
        let (id, len) = (r.u16()?, r.u16()?);
        let mut field = Reader::new(r.take(len.into())?);
        if id == 1 {
            for (wide, _) in wide.iter_mut().zip(short).filter(|(_, short)| *short == u32::MAX) {
                *wide = field.u64()?;
            }
            return Ok(wide);
        }
    }
    Err(invalid("a zip64 size is missing"))
}

/// Where the data behind the local header at `local` begins.
fn local_data(file: &[u8], local: u64, name: &str) -> Result<usize> {
    let at = usize::try_from(local).map_err(|_| invalid("offset is out of range"))?;
    let mut r = Reader::starting(file, at);
    if r.u32()? != LOCAL {
        return Err(invalid(format!("no member begins at byte {local}")));
    }
    r.take(22)?;
    let (name_len, extra_len) = (r.u16()?, r.u16()?);
    if r.take(name_len.into())? != name.as_bytes() {
        return Err(invalid("the directory and the member itself give it different names"));
    }
    r.take(extra_len.into())?;
    Ok(r.at())
}
