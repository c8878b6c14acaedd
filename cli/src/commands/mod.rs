//! One function per command of the command line. Each returns an exit code.

mod eval;
mod generate;
mod inspect;
mod plan;
mod reading;

use std::io::Write;

use crate::args::{Args, Command, Data, Recipes};
use crate::config::{self, Request};
use crate::run::{self, Manner};
use crate::{lab, recipes};

/// Carries out a command.
///
/// # Errors
/// Whatever stopped it; [`crate::exit::code`] says which exit code that is.
pub fn run(args: Args) -> anyhow::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let volume = if args.quiet { run::Volume::Quiet } else { run::Volume::Normal };
    match args.command {
        Command::Train(train) => {
            let manner = Manner { volume, profile: train.profile.steps };
            runtime.block_on(run::train(config::resolve(&Request::from(train))?, manner))
        }
        Command::Plan(options) => runtime.block_on(plan::run(options)),
        Command::Resume(resume) => {
            let manner = Manner { volume, profile: resume.profile.steps };
            runtime.block_on(run::resume(&resume.run, resume.device, manner))
        }
        Command::Generate(options) => runtime.block_on(generate::run(&options)),
        Command::Eval(options) => runtime.block_on(eval::run(&options)),
        Command::Data(Data::Inspect(options)) => inspect::run(&options),
        Command::Record(options) => runtime.block_on(lab::record(&options, volume)),
        Command::Lab(options) => runtime.block_on(lab::serve(&options)),
        Command::Devices => devices(),
        Command::Recipes(command) => recipes(&command),
    }
}

fn devices() -> anyhow::Result<i32> {
    let mut out = std::io::stdout().lock();
    for device in hbat_backends::list() {
        writeln!(out, "{device}")?;
    }
    Ok(0)
}

fn recipes(command: &Recipes) -> anyhow::Result<i32> {
    let mut out = std::io::stdout().lock();
    match command {
        Recipes::Ls => {
            for recipe in recipes::list() {
                writeln!(out, "{:<14} {}", recipe.name, recipe.summary)?;
            }
        }
        Recipes::Cat { name } => write!(out, "{}", recipes::get(name)?.complete())?,
        Recipes::Cp { name, destination } => writeln!(out, "{}", recipes::copy(name, destination)?.display())?,
    }
    Ok(0)
}
