//! The `seer` binary.

use clap::Parser;

fn main() -> std::process::ExitCode {
    seer::cli::run(seer::cli::Arguments::parse())
}
