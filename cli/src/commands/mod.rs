//! One function per command of the command line. Each returns an exit code.

mod compare;
mod eval;
mod generate;
mod inspect;
mod plan;
mod reading;

use std::io::Write;
use std::pin::Pin;

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
    // A panic, which is how Burn reports a device that fails, is told in words.
    let on = |work: Pin<Box<dyn Future<Output = anyhow::Result<i32>>>>| runtime.block_on(run::guarded(work));
    let volume = if args.quiet { run::Volume::Quiet } else { run::Volume::Normal };
    match args.command {
        Command::Train(train) => {
            let manner = Manner { volume, profile: train.profile.steps };
            on(Box::pin(run::train(config::resolve(&Request::from(train))?, manner)))
        }
        Command::Plan(options) => on(Box::pin(plan::run(options))),
        Command::Resume(resume) => {
            let manner = Manner { volume, profile: resume.profile.steps };
            on(Box::pin(async move { run::resume(&resume.run, resume.device, manner).await }))
        }
        Command::Generate(options) => on(Box::pin(async move { generate::run(&options).await })),
        Command::Compare(options) => on(Box::pin(async move { compare::run(&options).await })),
        Command::Eval(options) => on(Box::pin(async move { eval::run(&options).await })),
        Command::Data(Data::Inspect(options)) => inspect::run(&options),
        Command::Record(options) => on(Box::pin(async move { lab::record(&options, volume).await })),
        Command::Lab(options) => on(Box::pin(async move { lab::serve(&options).await })),
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
