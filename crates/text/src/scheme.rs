//! What every kind of vocabulary must be able to do. The public [`crate::Tokenizer`] holds one of them.

use crate::decode::Step;
use crate::error::Result;
use std::fmt::Debug;

/// A vocabulary with its way of cutting text.
pub(crate) trait Scheme: Debug + Send + Sync {
    /// Appends the ids of `text`, without the tokens that stand around a prompt.
    fn encode(&self, text: &str, parse_special: bool, out: &mut Vec<u32>) -> Result<()>;

    /// The ids that stand before and behind a prompt.
    fn around(&self) -> (Vec<u32>, Vec<u32>);

    /// How tokens become text.
    fn steps(&self) -> &[Step];

    /// Appends a token as the decoder's first step takes it; `None` for an id without token.
    fn piece(&self, id: u32, out: &mut Vec<u8>) -> Option<()>;

    /// The bytes a token stands for inside of a text.
    fn bytes(&self, id: u32) -> Option<Vec<u8>>;

    /// Whether the token controls rather than says something.
    fn is_special(&self, id: u32) -> bool;

    /// One more than the highest id.
    fn size(&self) -> usize;

    /// The id of a token given as its vocabulary writes it.
    fn id_of(&self, token: &str) -> Option<u32>;

    /// Beginning- and end-of-sequence ids, as far as the vocabulary itself names them.
    fn ends(&self) -> (Option<u32>, Option<u32>) {
        (None, None)
    }

    /// Further ids that end a generation, as far as the vocabulary itself names them.
    fn stops(&self) -> Vec<u32> {
        Vec::new()
    }
}
