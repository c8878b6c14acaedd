//! The program: arguments in, exit code out.

use std::io::Write;

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
            // That nobody listens any more is no failure, and failing to say what failed no reason to say it louder.
            let code = exit::code(&error);
            let what = if error.is::<std::io::Error>() { "writing the output: " } else { "" };
            if code != exit::OK {
                let _ = writeln!(std::io::stderr(), "error: {what}{error:#}");
            }
            code
        }
    });
}
