//! The page of `pondera serve` in a browser: installs what that takes, then builds the page again, compares it with what
//! is committed, weighs it and runs every test of `web/tests` against the release binary.
use crate::clients::call;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Browsers that do, and whoever names another by `CHROMIUM`.
const BROWSERS: &[&str] = &["/usr/bin/chromium", "/usr/bin/google-chrome"];

/// Runs them all. Errors: no Node, no browser that can be installed, a test that fails.
pub fn run() -> Result<(), String> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let web = root.join("web");
    browser()?;
    call(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&web))?;
    call(Command::new("npm").args(["run", "fresh"]).current_dir(&web))?;
    let binary = root.join("target/release/pondera");
    if !binary.exists() {
        call(Command::new("cargo").args(["build", "--release", "--quiet", "--bin", "pondera"]).current_dir(&root))?;
    }
    call(Command::new("npm").arg("test").current_dir(&web).env("PONDERA", &binary))
}

/// Debian's package where there is none: Playwright's own browser comes from a host that not every network reaches.
fn browser() -> Result<(), String> {
    let there = || std::env::var_os("CHROMIUM").is_some() || BROWSERS.iter().any(|b| Path::new(b).exists());
    if there() {
        return Ok(());
    }
    eprintln!("installing chromium");
    let apt = |args: &[&str]| call(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-q"]).and_then(|()| apt(&["install", "-y", "-q", "--no-install-recommends", "chromium"]))?;
    if there() { Ok(()) } else { Err("no browser: install chromium, or name one by CHROMIUM".into()) }
}
