//! The program: arguments in, exit code out.

use clap::Parser;
use hbat_cli::args::Args;
use hbat_cli::{commands, exit};

/// Keeps large blocks instead of returning them to the system, whose page faults would cost more than the arithmetic.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    std::process::exit(match commands::run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit::code(&error)
        }
    });
}
