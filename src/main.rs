//! The `pondera` binary.
fn main() {}
