//! Every fuzz target behind one entry: the first byte chooses, the rest is its input.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let targets: Vec<fn(&[u8])> =
        pondera_weights::fuzz::TARGETS.iter().chain(pondera_text::fuzz::TARGETS).map(|t| t.1).collect();
    if let Some((first, rest)) = data.split_first() {
        targets[usize::from(*first) % targets.len()](rest);
    }
});
