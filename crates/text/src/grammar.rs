//! Grammars that a text must follow, token by token: JSON schemas, regular expressions, Lark. The parsing is llguidance's; here
//! is what it needs of a vocabulary, and bounds on what a grammar may cost.
//!
//! Does not own: sampling. A [`Guide`] says which tokens may come next and takes the one that came.
use crate::{
    Tokenizer,
    answer::{Lark, Specials, Style, Wanted, guided},
    error::{Error, Result},
};
use llguidance::{
    Matcher, ParserFactory,
    api::TopLevelGrammar,
    toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie},
};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// Most bytes of a grammar's text.
pub const GRAMMAR_BYTES_MAX: usize = 1 << 20;

/// Makes grammars for one vocabulary. Dear to make (it orders all tokens by their bytes), cheap to use.
pub struct Compiler {
    factory: ParserFactory,
    /// Tokens that end a text; the first stands for all of them where a grammar is asked.
    ends: Arc<[u32]>,
    /// Texts of special tokens.
    specials: Specials,
}

/// A grammar, ready to guide any number of texts.
pub struct Grammar {
    start: Matcher,
    ends: Arc<[u32]>,
}

/// The place of one text in its grammar.
pub struct Guide {
    matcher: Matcher,
    allowed: SimpleVob,
    ends: Arc<[u32]>,
}

impl Compiler {
    /// For a model whose logits have `width` columns.
    ///
    /// # Errors
    /// A vocabulary without an end-of-sequence token: no text could end.
    pub fn new(tokenizer: &Tokenizer, width: usize) -> Result<Compiler> {
        let eos = tokenizer.eos_id();
        let ends = if tokenizer.stop_ids().is_empty() { eos.as_slice() } else { tokenizer.stop_ids() };
        Compiler::ending(tokenizer, width, ends)
    }

    /// As [`Compiler::new`], for texts that these tokens end.
    pub(crate) fn ending(tokenizer: &Tokenizer, width: usize, ends: &[u32]) -> Result<Compiler> {
        let ends: Vec<u32> = ends.iter().copied().filter(|id| (*id as usize) < width).collect();
        let end = ends.first().copied();
        let end = end.ok_or_else(|| Error::invalid("grammar: the vocabulary has no token that ends a text"))?;
        let word = |id: usize| -> Vec<u8> {
            let Ok(id) = u32::try_from(id) else { return Vec::new() };
            if id as usize >= tokenizer.vocab_size() {
                return Vec::new();
            }
            if tokenizer.is_special(id) {
                // Marked, so that no text of a grammar is ever written by a token that controls.
                return [&[TokTrie::SPECIAL_TOKEN_MARKER][..], tokenizer.decode(&[id], false).as_bytes()].concat();
            }
            tokenizer.token_bytes(id).unwrap_or_default()
        };
        let words: Vec<Vec<u8>> = (0..width).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(width as u32, end), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|e| wrong(&e.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        let specials = (0..width as u32).filter(|id| tokenizer.is_special(*id));
        let specials = Specials::new(specials.map(|id| (tokenizer.decode(&[id], false), id)));
        Ok(Compiler { factory, ends: ends.into(), specials })
    }

    /// Texts that are JSON of this schema.
    ///
    /// # Errors
    /// What the schema asks for and cannot be had, or a cost beyond the bounds.
    pub fn json_schema(&self, schema: &Value) -> Result<Grammar> {
        bounded(schema.to_string().len())?;
        self.compile(TopLevelGrammar::from_json_schema(guided(schema, true)))
    }

    /// Answers that are what is `wanted`, as a model of this style writes them; thoughts of the answer have begun if `opened`.
    /// None where it may be anything.
    ///
    /// # Errors
    /// As [`Compiler::json_schema`]; tools that the model has no way to call.
    pub fn answer(&self, style: &Style, wanted: &Wanted, opened: bool) -> Result<Option<Grammar>> {
        let text = Lark::new(&self.specials).answer(style, wanted, opened)?;
        text.map(|text| self.lark(&text)).transpose()
    }

    /// Texts that this regular expression matches whole.
    ///
    /// # Errors
    /// As [`Compiler::json_schema`].
    pub fn regex(&self, pattern: &str) -> Result<Grammar> {
        bounded(pattern.len())?;
        self.compile(TopLevelGrammar::from_regex(pattern))
    }

    /// Texts of this grammar in Lark's notation.
    ///
    /// # Errors
    /// As [`Compiler::json_schema`].
    pub fn lark(&self, text: &str) -> Result<Grammar> {
        bounded(text.len())?;
        self.compile(TopLevelGrammar::from_lark(text.to_string()))
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Grammar> {
        let start = Matcher::new(self.factory.create_parser(grammar));
        match start.get_error() {
            Some(e) => Err(wrong(&e)),
            None => Grammar { start, ends: self.ends.clone() }.sound(),
        }
    }
}

fn bounded(bytes: usize) -> Result<()> {
    match bytes {
        n if n > GRAMMAR_BYTES_MAX => {
            Err(Error::invalid(format!("grammar: {n} bytes, at most {GRAMMAR_BYTES_MAX} are read")))
        }
        _ => Ok(()),
    }
}

/// The first line of what llguidance says.
fn wrong(what: &str) -> Error {
    let line: String = what.lines().next().unwrap_or("").chars().take(300).collect();
    Error::invalid(format!("grammar: {line}"))
}

impl Grammar {
    /// Itself, unless no text can begin: such as a schema that is nothing but itself.
    fn sound(self) -> Result<Grammar> {
        let begun = self.start.deep_clone().compute_mask_or_eos();
        match begun {
            Ok(allowed) if !allowed.is_zero() => Ok(self),
            // The reason is a name within the library and says nothing more.
            _ => Err(Error::invalid(
                "grammar: no text is of this kind: it asks for what cannot be, or for itself without end",
            )),
        }
    }

    /// At the beginning of a text.
    pub fn begin(&self) -> Guide {
        Guide { matcher: self.start.deep_clone(), allowed: SimpleVob::new(), ends: self.ends.clone() }
    }
}

impl Guide {
    /// Which tokens may come next: bit `id % 32` of word `id / 32`. At a place where the text may end, the tokens that end it are
    /// among them.
    ///
    /// # Errors
    /// A step whose cost is beyond the bounds.
    pub fn allowed(&mut self) -> Result<&[u32]> {
        self.allowed = self.matcher.compute_mask_or_eos().map_err(|e| wrong(&e.to_string()))?;
        // Where the text may end, a model may end it by any of its ends.
        if let [first, rest @ ..] = &self.ends[..]
            && self.allowed.is_allowed(*first)
        {
            rest.iter().for_each(|id| self.allowed.allow_token(*id));
        }
        Ok(self.allowed.as_slice())
    }

    /// What [`Guide::allowed`] found last.
    pub fn found(&self) -> &[u32] {
        self.allowed.as_slice()
    }

    /// Takes the token that came, one of those that were allowed. True if nothing can follow.
    ///
    /// # Errors
    /// A token that does not fit.
    pub fn accept(&mut self, id: u32) -> Result<bool> {
        self.matcher.consume_token(id).map_err(|e| wrong(&e.to_string()))?;
        Ok(self.matcher.is_stopped())
    }
}

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compiler")
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grammar")
    }
}

impl fmt::Debug for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guide")
    }
}
