//! The `pondera` binary: everything is in `pondera-cli`.
fn main() -> std::process::ExitCode {
    pondera::cli::main(std::env::args_os())
}
