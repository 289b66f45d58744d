//! Lists the tensors of a model, with a checksum of each: `cargo run -p pondera-weights --example tensors -- PATH`.
use pondera_weights::{Result, Weights};

/// FNV-1a, enough to see whether two files hold the same bytes.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

fn list(path: &str) -> Result<()> {
    let weights = Weights::open(path)?;
    for t in weights.tensors() {
        let sum = checksum(weights.view(t)?.bytes.as_slice());
        println!("{} {} {:?} {sum:016x}", t.name, t.format.info().name, t.shape);
    }
    eprintln!("{weights:?}: {} bytes", weights.total_bytes());
    weights.check()
}

fn main() {
    for path in std::env::args().skip(1) {
        if let Err(e) = list(&path) {
            eprintln!("error: {e:#}");
            std::process::exit(3);
        }
    }
}
