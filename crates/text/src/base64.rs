//! Base64, read only: token bytes and character maps are written so.

/// The bytes, or `None` if the text is not base64. Padding may be missing.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|b| *b != b'=').map_or(0, |at| at + 1);
    if text.len() - end > 2 {
        return None;
    }
    let text = text.get(..end)?;
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for chunk in text.chunks(4) {
        let mut bits = 0_u32;
        for byte in chunk {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - chunk.len());
        let count = match chunk.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        out.extend_from_slice(bits.to_be_bytes().get(1..=count)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_with_and_without_padding() {
        for (text, want) in
            [("", ""), ("YQ==", "a"), ("YQ", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YWJjZA==", "abcd")]
        {
            assert_eq!(super::decode(text.as_bytes()).as_deref(), Some(want.as_bytes()), "{text}");
        }
        for bad in ["Y", "Y!==", "YQ===", "YW=j"] {
            assert_eq!(super::decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
