//! The little of DER that signatures need beside a reader of certificates: values cut out as they are written.
//!
//! Owns cutting and writing tag, length and value. A length that is not written the short way is refused.

/// Tag of a SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// Tag of an OCTET STRING.
pub const OCTETS: u8 = 0x04;

/// A value: its tag, its content, all of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The tag.
    pub tag: u8,
    /// The content.
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

/// The value that `bytes` begin with, and what follows.
pub fn next(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    // Tags of several bytes occur in nothing that is read here.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0usize, |n, &d| n << 8 | usize::from(d));
            let shortest = length > 0x7f && digits.first() != Some(&0);
            (shortest.then_some(length)?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let whole = bytes.get(..bytes.len() - rest.len())?;
    Some((Value { tag, content, whole }, rest))
}

/// The values that `bytes` are made of.
pub fn all(mut bytes: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let (value, rest) = next(bytes)?;
        values.push(value);
        bytes = rest;
    }
    Some(values)
}

/// The content of the one value with `tag` that `bytes` are.
pub fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (value, rest) = next(bytes)?;
    (value.tag == tag && rest.is_empty()).then_some(value.content)
}

/// A value as it is written.
pub fn write(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        n @ 0..=0x7f => bytes.push(n as u8),
        n => {
            let digits: Vec<u8> = n.to_be_bytes().into_iter().skip_while(|&d| d == 0).collect();
            bytes.push(0x80 | digits.len() as u8);
            bytes.extend(digits);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_out_as_they_were_written() {
        for n in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; n];
            let bytes = write(OCTETS, &content);
            assert_eq!(only(&bytes, OCTETS), Some(&content[..]), "{n}");
            assert_eq!(only(&bytes, SEQUENCE), None);
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(only(&longer, OCTETS), None);
            assert_eq!(next(&bytes[..bytes.len() - 1]), None);
        }
        for bad in [
            &[][..],
            &[4],
            &[4, 0x81, 1, 0],
            &[4, 0x80, 0, 0],
            &[4, 0x85, 0, 0, 0, 0, 1, 0],
            &[0x1f, 1, 0],
            &[4, 0x82, 0, 0x80],
        ] {
            assert_eq!(next(bad), None, "{bad:?}");
        }
    }
}
