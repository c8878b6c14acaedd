//! The program: arguments in, exit code out.

use clap::Parser;
use hbat_cli::args::Args;
use hbat_cli::{commands, exit, memory};

/// Reuses large blocks, see [`memory::keep_freed`].
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() {
    memory::keep_freed();
    std::process::exit(match commands::run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit::code(&error)
        }
    });
}
