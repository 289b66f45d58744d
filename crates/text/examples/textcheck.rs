//! Temporary driver for the acceptance suites.
use pondera_text::*;
use std::io::{BufRead, Read, Write};
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |f: &str| args.iter().any(|a| a == f);
    let out = &mut std::io::BufWriter::new(std::io::stdout());
    let mut run = || -> Result<()> {
        if args[0] == "template" { return template(&args); }
        let t = Tokenizer::open(&args[1])?;
        let opts = EncodeOptions { add_special: !has("--no-special"), parse_special: has("--parse-special"), add_eos: has("--add-eos") };
        if has("--time") {
            let mut s = String::new(); std::io::stdin().read_to_string(&mut s).unwrap();
            let i = std::time::Instant::now(); let t2 = Tokenizer::open(&args[1])?; eprintln!("load {:?}", i.elapsed()); drop(t2);
            let i = std::time::Instant::now(); let n = t.encode(&s, &opts)?.len(); eprintln!("encode {} bytes {n} ids {:?}", s.len(), i.elapsed());
            return Ok(());
        }
        for line in std::io::stdin().lock().lines() {
            let line = line.unwrap();
            if args[0] == "tokenize" {
                let text: String = serde_json::from_str(&line).unwrap();
                writeln!(out, "{}", serde_json::to_string(&t.encode(&text, &opts)?).unwrap()).unwrap();
            } else {
                let ids: Vec<u32> = serde_json::from_str(&line).unwrap();
                let text = t.decode(&ids, has("--skip-special"));
                let mut s = t.stream(has("--skip-special"));
                let mut u = String::new();
                for i in &ids { u += &s.push(*i); }
                u += &s.finish();
                assert_eq!(u, text);
                writeln!(out, "{}", serde_json::to_string(&text).unwrap()).unwrap();
            }
        }
        Ok(())
    };
    if let Err(e) = run() { eprintln!("{e}"); std::process::exit(if e.kind() == ErrorKind::Raised || e.kind()==ErrorKind::Template || e.kind()==ErrorKind::Limit {1} else {3}) }
}
fn template(a: &[String]) -> Result<()> {
    let get = |f: &str| a.iter().position(|x| x == f).map(|i| a[i + 1].clone());
    let json = serde_json::from_str(&std::fs::read_to_string(get("--messages").unwrap()).unwrap()).unwrap();
    let mut input = ChatInput::from_json(json)?;
    input.add_generation_prompt |= a.iter().any(|x| x == "--add-generation-prompt");
    input.bos_token = get("--bos-token"); input.eos_token = get("--eos-token");
    input.now = get("--now").and_then(|n| parse_time(&n));
    let t = match get("--template") { Some(f) => ChatTemplate::new(std::fs::read_to_string(f).unwrap()), None => ChatTemplate::open(&a[1])?.unwrap() };
    let i = std::time::Instant::now();
    let r = t.render(&input);
    if a.iter().any(|x| x == "--time") { eprintln!("{:?}", i.elapsed()); }
    println!("{}", serde_json::json!({"text": r?}));
    Ok(())
}
