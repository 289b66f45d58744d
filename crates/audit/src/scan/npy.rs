//! NumPy files: the header, and the pickle behind it where the array holds objects.
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
use super::pickle::{self, Place};
use crate::findings::{Findings, NPY_BROKEN, NPY_OBJECT, New, Severity, TRAILING};

pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that NumPy itself reads without being told to.
const HEADER_MAX: usize = 10_000;

/// Looks at a `.npy` file.
pub(crate) fn scan(data: &[u8], file: &str, findings: &mut Findings) {
    let mut add = |rule, severity, what: String, offset: usize| {
        findings.add(New { rule, severity, file, what, offset: Some(offset), name: None });
    };
    let start = match data {
        [_, _, _, _, _, _, 1, _, a, b, ..] => Some((10, usize::from(u16::from_le_bytes([*a, *b])))),
        [_, _, _, _, _, _, 2 | 3, _, a, b, c, d, ..] => {
            usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok().map(|n| (12, n))
        }
        _ => None,
    };
    let header = start.and_then(|(at, n)| Some((at + n, data.get(at..)?.get(..n)?)));
    let Some((body, header)) = header else {
        return add(NPY_BROKEN, Severity::High, "the header is cut off or of an unknown version".into(), 0);
    };
    let text = String::from_utf8_lossy(header);
    let text = text.trim();
    // NumPy reads it as a Python literal: a dict of text, numbers and tuples, and nothing else.
    let plain = |c: char| c.is_ascii_alphanumeric() || " '\"{}[]():,<>|=_.-+\n".contains(c);
    if header.len() > HEADER_MAX
        || !text.starts_with('{')
        || !text.ends_with('}')
        || !text.contains("descr")
        || text.chars().any(|c| !plain(c) && c.is_ascii())
    {
        add(NPY_BROKEN, Severity::High, "the header is no dict of plain values".into(), 8);
    }
    let Some(descr) = text.split("descr").nth(1) else { return };
    if holds_objects(descr) {
        add(NPY_OBJECT, Severity::High, "the array holds Python objects, which are a pickle".into(), body);
        let rest = data.get(body..).unwrap_or(&[]);
        let end = pickle::scan(rest, file, Place::Alone, body, findings);
        if end < rest.len() {
            let what = format!("{} bytes lie behind the pickle", rest.len() - end);
            findings.add(New {
                rule: TRAILING,
                severity: Severity::Medium,
                file,
                what,
                offset: Some(body + end),
                name: None,
            });
        }
    }
}

/// Whether a `descr` names the object type: `'|O'`, `'O8'`, also inside of structures.
fn holds_objects(descr: &str) -> bool {
    let descr = descr.split("fortran_order").next().unwrap_or(descr);
    let descr = descr.split_once(':').map_or(descr, |(_, value)| value);
    let quoted = descr.split(['\'', '"']).skip(1).step_by(2).map(|t| t.trim_start_matches(['|', '<', '>', '=']));
    let object = |t: &str| t.starts_with('O') && t.len() <= 3 || t == "object";
    quoted.into_iter().any(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Concern;

    fn npy(header: &str, body: &[u8]) -> Vec<u8> {
        let mut file = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        file.extend(body);
        file
    }

    #[test]
    fn objects_are_found_and_numbers_are_not() {
        let worst = |data: &[u8]| {
            let mut f = Findings::default();
            scan(data, "x", &mut f);
            f.worst(Concern::Safety)
        };
        let plain = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n";
        assert_eq!(worst(&npy(plain, &[0; 12])), None);
        let objects = plain.replace("<f4", "|O");
        assert_eq!(worst(&npy(&objects, b"\x80\x02N.")), Some(Severity::High));
        assert_eq!(worst(&npy(&objects, b"cos\nsystem\n(S'x'\ntR.")), Some(Severity::Critical));
        let inside = "{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape': (1,), }";
        assert_eq!(worst(&npy(inside, b"\x80\x02N.")), Some(Severity::High));
        assert_eq!(worst(&npy("{'descr': __import__('os')}; x", b"")), Some(Severity::High));
        assert_eq!(worst(MAGIC), Some(Severity::High));
    }
}
