//! temporary
fn main() {
    let t = std::time::Instant::now();
    for f in std::env::args().skip(1) {
        let b = std::fs::read(&f).unwrap();
        let text = String::from_utf8_lossy(&b);
        let i = pondera_audit::license::identify(&text);
        println!("{}\t{:?}\t{:?}\t{:?}", f.rsplit('/').next().unwrap(), i.id(), i.riders, i.resembles);
    }
    eprintln!("{:?}", t.elapsed());
}
