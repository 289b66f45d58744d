//! Archives: every member is looked into, and so is what lies between them.
//!
//! Owns the walk over zip members (torch checkpoints, `.npz`, anything else), deflated ones included, within a budget
//! of bytes; and what readers of archives may see differently: hidden members, gaps, paths, bombs.
use super::{Budget, content, pickle};
use crate::findings::{
    Findings, New, PICKLE_HIDDEN, Severity, ZIP_BOMB, ZIP_BROKEN, ZIP_GAP, ZIP_HIDDEN, ZIP_PATH, shown,
};
use pondera_weights::zip::{self, Entry};
use std::borrow::Cow;

/// Largest gap that alignment and data descriptors explain.
const GAP_MAX: usize = 24;
const LOCAL: &[u8] = b"PK\x03\x04";
const END: &[u8] = b"PK\x05\x06";
/// The end record without its comment, and with the longest one.
const TAIL: usize = 22 + 0xffff;

/// Where an archive's end record stands, if there is one that reaches the end.
pub(crate) fn end_record(data: &[u8]) -> Option<usize> {
    let from = data.len().saturating_sub(TAIL);
    let window = data.get(from..)?;
    let fits = |at: &usize| {
        let comment = window.get(at + 20..at + 22).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
        comment.is_some_and(|n| at + 22 + usize::from(n) == window.len())
    };
    let at = window.windows(4).enumerate().rev().filter(|(_, w)| *w == END).map(|(at, _)| at).find(fits)?;
    Some(from + at)
}

/// Whether `data` begins or ends like an archive.
pub(crate) fn looks_like(data: &[u8]) -> bool {
    data.starts_with(LOCAL) || data.starts_with(END)
}

/// Looks at an archive.
pub(crate) fn scan(data: &[u8], file: &str, budget: &mut Budget, findings: &mut Findings) {
    let members = match zip::parse(data) {
        Ok(members) => members,
        Err(e) => {
            findings.add(New {
                rule: ZIP_BROKEN,
                severity: Severity::High,
                file,
                what: e.to_string(),
                offset: None,
                name: None,
            });
            // Members can be found without a directory, as some readers do.
            return orphans(data, 0..data.len(), file, budget, findings);
        }
    };
    gaps(data, &members, file, budget, findings);
    let torch = members
        .iter()
        .find(|m| m.name.strip_suffix("data.pkl").is_some_and(|f| f.is_empty() || f.matches('/').count() == 1));
    let main = torch.map(|m| &*m.name);
    for m in &members {
        let name = &*m.name;
        let path = format!("{file}!{}", shown(name));
        if name.starts_with(['/', '\\']) || name.contains(':') || name.split(['/', '\\']).any(|p| p == "..") {
            let what = format!("the member {} leaves the folder", shown(name));
            findings.add(New {
                rule: ZIP_PATH,
                severity: Severity::High,
                file,
                what,
                offset: Some(m.header),
                name: Some(name),
            });
        }
        let Some(bytes) = unpacked(m, data, &path, budget, findings) else { continue };
        if main == Some(name) {
            pickle::scan(&bytes, &path, pickle::Place::Checkpoint, 0, findings);
            continue;
        }
        // Storages are numbers: what begins like something else by chance is none.
        let storage = main
            .and_then(|m| m.strip_suffix("data.pkl"))
            .is_some_and(|f| name.strip_prefix(f).is_some_and(|rest| rest.starts_with("data/")));
        if storage {
            if pickle::looks_like(&bytes) {
                let what = "a storage of the checkpoint is a pickle".into();
                findings.add(New {
                    rule: PICKLE_HIDDEN,
                    severity: Severity::Medium,
                    file: &path,
                    what,
                    offset: None,
                    name: Some(name),
                });
                pickle::scan(&bytes, &path, pickle::Place::Alone, 0, findings);
            }
            continue;
        }
        content(&bytes, name, &path, budget, findings);
    }
}

/// A member's bytes: where they lie if they are stored, inflated within the budget if they are deflated.
fn unpacked<'a>(
    m: &Entry,
    data: &'a [u8],
    path: &str,
    budget: &mut Budget,
    findings: &mut Findings,
) -> Option<Cow<'a, [u8]>> {
    let mut add = |rule, severity, what: String| {
        findings.add(New { rule, severity, file: path, what, offset: Some(m.header), name: Some(&m.name) });
    };
    if !m.deflated {
        return match m.bytes(data) {
            Ok(bytes) => Some(Cow::Borrowed(bytes)),
            Err(e) => {
                add(ZIP_BROKEN, Severity::High, format!("cannot be looked into: {e}"));
                None
            }
        };
    }
    let packed = data.get(m.range.clone())?;
    let most = budget.bytes.min(packed.len().saturating_mul(1100).saturating_add(64));
    match miniz_oxide::inflate::decompress_to_vec_with_limit(packed, most) {
        Ok(bytes) => {
            budget.bytes = budget.bytes.saturating_sub(bytes.len());
            if bytes.len() as u64 != m.unpacked {
                add(ZIP_BROKEN, Severity::High, format!("says {} bytes, unpacks to {}", m.unpacked, bytes.len()));
            }
            Some(Cow::Owned(bytes))
        }
        Err(e) if e.status == miniz_oxide::inflate::TINFLStatus::HasMoreOutput => {
            add(
                ZIP_BOMB,
                Severity::High,
                format!("unpacks to more than {most} bytes, of which the first were looked at"),
            );
            Some(Cow::Owned(e.output))
        }
        Err(e) => {
            add(ZIP_BROKEN, Severity::High, "its deflated bytes are broken".into());
            Some(Cow::Owned(e.output))
        }
    }
}

/// Bytes in front of, between and behind members.
fn gaps(data: &[u8], members: &[Entry], file: &str, budget: &mut Budget, findings: &mut Findings) {
    let Some(end) = end_record(data) else { return };
    let mut spans: Vec<(usize, usize)> = members.iter().map(|m| (m.header, m.range.end)).collect();
    spans.sort_unstable();
    // The directory follows the last member; what stands between it and the end record is its own.
    let directory = data.get(end + 16..end + 20).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let directory = directory.filter(|&d| d != u32::MAX).and_then(|d| usize::try_from(d).ok()).filter(|&d| d <= end);
    let last = spans.last().map_or(0, |s| s.1);
    let close = directory.unwrap_or(last).max(last.min(end));
    let mut at = 0;
    for (start, stop) in spans.into_iter().chain([(close, close)]) {
        if start > at && start - at > GAP_MAX {
            let bytes = start - at;
            let what = format!("{bytes} bytes at {at} belong to no member");
            findings.add(New { rule: ZIP_GAP, severity: Severity::Medium, file, what, offset: Some(at), name: None });
            orphans(data, at..start, file, budget, findings);
        }
        at = at.max(stop);
    }
    let comment = data.len().saturating_sub(end + 22);
    if comment > 0 && data.get(end + 22..).is_some_and(pickle::looks_like) {
        let what = "the archive's comment is a pickle".into();
        findings.add(New {
            rule: PICKLE_HIDDEN,
            severity: Severity::High,
            file,
            what,
            offset: Some(end + 22),
            name: None,
        });
    }
}

/// Members that stand in a gap, found by their headers, and pickles that stand there without one.
fn orphans(data: &[u8], range: std::ops::Range<usize>, file: &str, budget: &mut Budget, findings: &mut Findings) {
    const ORPHANS_MAX: usize = 64;
    let gap = data.get(range.clone()).unwrap_or(&[]);
    if pickle::looks_like(gap) {
        let what = "the bytes outside of all members are a pickle".into();
        findings.add(New {
            rule: PICKLE_HIDDEN,
            severity: Severity::High,
            file,
            what,
            offset: Some(range.start),
            name: None,
        });
        pickle::scan(gap, file, pickle::Place::Alone, range.start, findings);
    }
    let headers = gap.windows(4).enumerate().filter(|(_, w)| *w == LOCAL).map(|(at, _)| at).take(ORPHANS_MAX);
    for at in headers {
        let field =
            |o: usize| gap.get(at + o..at + o + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes);
        let (method, name_len, extra) = (field(8), usize::from(field(26)), usize::from(field(28)));
        let name = gap.get(at + 30..at + 30 + name_len).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        let body = gap.get(at + 30 + name_len + extra..).unwrap_or(&[]);
        let what = format!("the member {} is not in the directory", shown(&name));
        let offset = Some(range.start + at);
        findings.add(New { rule: ZIP_HIDDEN, severity: Severity::High, file, what, offset, name: Some(&name) });
        let path = format!("{file}!{}", shown(&name));
        if method == 0 && pickle::looks_like(body) {
            pickle::scan(body, &path, pickle::Place::Alone, 0, findings);
        } else if method == 8 {
            let most = budget.bytes.min(1 << 20);
            let bytes = match miniz_oxide::inflate::decompress_to_vec_with_limit(body, most) {
                Ok(bytes) => bytes,
                Err(e) => e.output,
            };
            budget.bytes = budget.bytes.saturating_sub(bytes.len());
            if pickle::looks_like(&bytes) {
                pickle::scan(&bytes, &path, pickle::Place::Alone, 0, findings);
            }
        }
    }
}
