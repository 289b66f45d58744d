//! A tokenizer as sequences use it: streams of text that keep their vocabulary alive.
use crate::net::{Stream, Vocabulary};
use pondera_text::Tokenizer;
use std::sync::Arc;

type TextStream<'t> = pondera_text::Stream<'t>;

self_cell::self_cell!(
    /// A stream beside the tokenizer that it borrows.
    struct Owned {
        owner: Arc<Tokenizer>,
        #[not_covariant]
        dependent: TextStream,
    }
);

/// A vocabulary of the engine.
pub(crate) struct Words(pub Arc<Tokenizer>);

impl Vocabulary for Words {
    fn stream(&self, show_special: bool, shown: Arc<[u32]>) -> Box<dyn Stream> {
        Box::new(Owned::new(self.0.clone(), |t| t.stream_but(!show_special, shown)))
    }

    fn ends(&self) -> &[u32] {
        self.0.stop_ids()
    }
}

impl Stream for Owned {
    fn push(&mut self, id: u32, out: &mut String) {
        self.with_dependent_mut(|_, s| s.push_to(id, out));
    }

    fn finish(&mut self, out: &mut String) {
        self.with_dependent_mut(|_, s| out.push_str(&s.clone().finish()));
    }
}
