//! temporary
use pondera_audit::{audit, findings::Severity, license};
use std::{path::Path, process::exit};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let path = Path::new(&a[2]);
    match &*a[1] {
        "license" => match license::report(path) {
            Ok(r) => println!("{}", serde_json::to_string(&r).unwrap()),
            Err(e) => { eprintln!("error: {e}"); exit(3) }
        },
        "identify" => for f in &a[2..] {
            let b = std::fs::read(f).unwrap();
            let i = license::identify(&String::from_utf8_lossy(&b));
            println!("{}\t{:?}\t{:?}\t{:?}", f.rsplit('/').next().unwrap(), i.id(), i.riders, i.resembles);
        },
        _ => match audit(path, "x", None) {
            Ok(r) => {
                println!("{}", serde_json::to_string(&r).unwrap());
                if r.worst_safety >= Some(Severity::High) { exit(3) }
            }
            Err(e) => { eprintln!("error: {e}"); exit(3) }
        },
    }
}
