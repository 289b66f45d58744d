//! JSON that comes in pieces: where an object ends.

/// How far into an object the text is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    depth: usize,
    string: bool,
    escaped: bool,
}

impl Scan {
    /// How many bytes of `text` belong to the object, and whether it ends there.
    pub fn take(&mut self, text: &str) -> (usize, bool) {
        for (i, b) in text.bytes().enumerate() {
            match b {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.string => self.escaped = true,
                b'"' => self.string = !self.string,
                _ if self.string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return (i + 1, true);
                    }
                }
                _ => {}
            }
        }
        (text.len(), false)
    }
}

/// `text` as it stands in a JSON string, without its quotes.
pub(super) fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_string()
}
