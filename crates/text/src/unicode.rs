//! Questions about characters that several vocabularies ask.

use crate::pattern::Class;
use std::sync::LazyLock;

macro_rules! class {
    ($name:ident, $pattern:literal) => {
        static $name: LazyLock<Class> = LazyLock::new(|| Class::named($pattern));
    };
}

class!(PUNCTUATION, r"\p{P}");
class!(OTHER, r"[\p{Cc}\p{Cf}\p{Co}]");
class!(NONSPACING, r"\p{Mn}");
class!(MARK, r"\p{M}");
class!(WORD, r"\w");

/// ASCII punctuation (symbols included) or any of Unicode's punctuation categories.
pub(crate) fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || (!c.is_ascii() && PUNCTUATION.contains(c))
}

/// Unicode's punctuation categories alone.
pub(crate) fn is_strict_punctuation(c: char) -> bool {
    PUNCTUATION.contains(c)
}

/// A control, format or private character other than tab and line ends.
pub(crate) fn is_other(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r') && OTHER.contains(c)
}

/// A mark that takes no room of its own.
pub(crate) fn is_nonspacing(c: char) -> bool {
    !c.is_ascii() && NONSPACING.contains(c)
}

/// Any combining mark.
pub(crate) fn is_mark(c: char) -> bool {
    !c.is_ascii() && MARK.contains(c)
}

/// A character of a word in the sense of `\w`.
pub(crate) fn is_word(c: char) -> bool {
    WORD.contains(c)
}

/// The CJK blocks that BERT sets apart.
pub(crate) fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// The character that GPT-2's vocabularies write for each byte.
pub(crate) static BYTE_CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut chars = ['\0'; 256];
    let mut extra = 256_u32;
    for byte in 0..=255_u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        chars[usize::from(byte)] = if printable {
            char::from(byte)
        } else {
            extra += 1;
            char::from_u32(extra - 1).unwrap_or('\0')
        };
    }
    chars
});

/// The byte that such a character stands for.
pub(crate) fn byte_of_char(c: char) -> Option<u8> {
    static BYTES: LazyLock<Vec<Option<u8>>> = LazyLock::new(|| {
        let mut bytes = vec![None; 324];
        for (byte, c) in BYTE_CHARS.iter().enumerate() {
            bytes[u32::from(*c) as usize] = u8::try_from(byte).ok();
        }
        bytes
    });
    BYTES.get(u32::from(c) as usize).copied().flatten()
}

/// Appends the bytes that the characters of `text` spell, or `text` itself where one spells none.
pub(crate) fn push_byte_chars(text: &str, out: &mut Vec<u8>) {
    let from = out.len();
    let all = text.chars().all(|c| byte_of_char(c).map(|b| out.push(b)).is_some());
    if !all {
        out.truncate(from);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Text as GPT-2's vocabularies write its bytes.
pub(crate) fn to_byte_chars(text: &[u8]) -> String {
    text.iter().map(|b| BYTE_CHARS[usize::from(*b)]).collect()
}

/// The byte that a token of the form `<0x41>` stands for.
pub(crate) fn byte_token(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_characters_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        let text = to_byte_chars(&all);
        assert_eq!(text.chars().map(byte_of_char).collect::<Option<Vec<u8>>>(), Some(all));
        assert_eq!(to_byte_chars(b" a\n"), "ĠaĊ");
        assert_eq!(byte_of_char('你'), None);
        assert_eq!((byte_token("<0x0A>"), byte_token("<0x+A>"), byte_token("<0xA>")), (Some(10), None, None));
    }
}
