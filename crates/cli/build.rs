//! Embeds the default model where the checkout holds it, so that the crate also builds without.
use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(pebble)");
    let Some(root) = env::var_os("CARGO_MANIFEST_DIR") else { return };
    let folder = PathBuf::from(root).join("../../models/pebble");
    let file = folder.join("pebble.gguf");
    if file.is_file() {
        println!("cargo::rustc-cfg=pebble");
        println!("cargo::rustc-env=PEBBLE={}", file.display());
        println!("cargo::rerun-if-changed={}", file.display());
    } else {
        // A missing file named here would make every build a fresh one; its folder tells when it appears.
        println!("cargo::rerun-if-changed={}", folder.display());
    }
}
