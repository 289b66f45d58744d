//! The engine in a page: opens a model, completes a text or a list of ids greedily, shows the text as it comes.
//!
//! `cargo run -p pondera-engine --example complete -- MODEL "Once upon a time" 40`, or ids: `1,403,407`.
use pondera_engine::{Engine, EngineOptions, Event, KvType, Request, Source};
use pondera_text::EncodeOptions;
use std::{error::Error, io::Write, ops::ControlFlow, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, prompt, rest @ ..] = &args[..] else { return Err("usage: complete MODEL PROMPT [TOKENS]".into()) };
    let most = rest.first().map_or(Ok(32), |n| n.parse())?;
    let options = EngineOptions { kv: KvType::F32, ..EngineOptions::default() };
    let mut engine = Engine::open(&Source::Path(Path::new(model)), &options, &mut |_| {})?;
    let ids: Result<Vec<u32>, _> = prompt.split(',').map(|id| id.trim().parse()).collect();
    let prompt = match (ids, engine.tokenizer()?) {
        (Ok(ids), _) => ids,
        (Err(_), Some(tokenizer)) => tokenizer.encode(prompt, &EncodeOptions::default())?,
        (Err(e), None) => return Err(e.into()),
    };
    let request = Request { prompt, max_tokens: Some(most), ignore_eos: true, ..Request::default() };
    let done = engine.generate(request, &mut |event| {
        if let Event::Token { text, .. } | Event::Finished { text, .. } = event {
            print!("{text}");
        }
        match std::io::stdout().flush() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    println!("\n{:?}\n{:?}", done.tokens, done.timings);
    Ok(())
}
