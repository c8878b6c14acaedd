//! The command line.

mod finished;
mod lab;

pub use finished::{Compare, Eval, Files, Generate, JudgeOptions, Prompts, Reading};
pub use lab::{Record, Serve};

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand};
use hbat_backends::DeviceName;
use serde::de::DeserializeOwned;

use crate::config::{FormatChoice, Request};
use crate::data::{TemplateChoice, TooLong};

/// Trains language models by hybrid alignment training: instruction following and human preference in turns.
#[derive(Debug, Clone, Parser)]
#[command(name = "hbat", version, max_term_width = 120, propagate_version = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print results and warnings only.
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Train; without a run file, the toy.
    Train(Train),
    /// Tell what a run needs, without running it: memory, disk, steps, time.
    Plan(Plan),
    /// Go on with a run that was stopped.
    Resume(Resume),
    /// Let a model answer prompts.
    Generate(Generate),
    /// Measure a model on demonstrations and preferences.
    Eval(Eval),
    /// Compare two models' answers to the same prompts: by a reward model, a judge behind an API, or ROUGE.
    Compare(Compare),
    /// Train methods side by side on the toy, and write a recording for the lab's page.
    Record(Record),
    /// Serve the lab: a page on which methods train side by side.
    Lab(Serve),
    /// List the devices of this build and machine.
    Devices,
    /// List, print or copy the run files inside this program.
    #[command(subcommand)]
    Recipes(Recipes),
    /// Look at data as training sees it.
    #[command(subcommand)]
    Data(Data),
}

/// `hbat train`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Train {
    /// What to run.
    #[command(flatten)]
    pub run: Run,
    /// The run's folder.
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Where time goes.
    #[command(flatten)]
    pub profile: Profile,
}

/// What to profile.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Profile {
    /// Write profile.md, a table of where the time of the first STEPS steps of each phase goes, and profile.json, the same as a trace
    /// for Chrome or Perfetto. A little slower, for every part of a step is waited for.
    #[arg(long = "profile", value_name = "STEPS", num_args = 0..=1, default_missing_value = "10", value_parser = at_least_one)]
    pub steps: Option<usize>,
}

/// A run, and where to compute.
#[derive(Debug, Clone, ClapArgs)]
pub struct Run {
    /// The run file; without one, the recipe `toy`.
    #[arg(value_name = "RUN.toml")]
    pub run: Option<PathBuf>,
    /// Change a setting, such as sft.learning_rate=1e-4; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// cpu, wgpu, wgpu:N, cuda or cuda:N.
    #[arg(short, long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
}

/// `hbat plan`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Plan {
    /// What to run.
    #[command(flatten)]
    pub run: Run,
    /// Floating-point operations per second that the device does, such as 4e14; without it, a layer is timed there.
    #[arg(long, value_name = "N", value_parser = positive, allow_negative_numbers = true)]
    pub flops: Option<f64>,
    /// Bytes of memory that the device has, such as 80e9, for a run on another machine; without it, the device is asked.
    #[arg(long, value_name = "BYTES", value_parser = positive, allow_negative_numbers = true)]
    pub memory: Option<f64>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

impl From<Run> for Request {
    fn from(run: Run) -> Self {
        Self { file: run.run, set: run.set, output: None, device: run.device }
    }
}

impl From<Train> for Request {
    fn from(train: Train) -> Self {
        Self { output: train.output, ..train.run.into() }
    }
}

/// `hbat resume`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Resume {
    /// The run's folder.
    #[arg(value_name = "DIR")]
    pub run: PathBuf,
    /// Where time goes.
    #[command(flatten)]
    pub profile: Profile,
    /// Another device than before: cpu, wgpu, wgpu:N, cuda or cuda:N.
    #[arg(short, long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
}

/// `hbat recipes`.
#[derive(Debug, Clone, Subcommand)]
pub enum Recipes {
    /// List the recipes.
    Ls,
    /// Print a recipe with every setting and its default.
    Cat {
        /// Its name.
        #[arg(value_name = "RECIPE")]
        name: String,
    },
    /// Copy a recipe into a new file.
    Cp {
        /// Its name.
        #[arg(value_name = "RECIPE")]
        name: String,
        /// The new file, or the folder for it.
        #[arg(value_name = "DESTINATION", default_value = ".")]
        destination: PathBuf,
    },
}

/// `hbat data`.
#[derive(Debug, Clone, Subcommand)]
pub enum Data {
    /// Print examples, tokens that are trained on in colour, and a histogram of lengths.
    Inspect(Inspect),
}

/// `hbat data inspect`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Inspect {
    /// A file of demonstrations, preferences or prompts.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The model's folder, for its tokenizer and chat template.
    #[arg(short, long, value_name = "DIR")]
    pub model: PathBuf,
    /// Print the first N examples.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3)]
    pub limit: usize,
    /// How texts become tokens.
    #[command(flatten)]
    pub reading: Reading,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    at_least(1, text)
}

fn at_least_two(text: &str) -> Result<usize, String> {
    at_least(2, text)
}

fn at_least(least: usize, text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("give a whole number, {least} or more"))
}

fn number(text: &str, holds: impl Fn(f64) -> bool, words: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && holds(*number));
    number.ok_or_else(|| format!("give a number {words}, such as 0.5 or 80e9, without a unit"))
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0, "greater than 0")
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |number| number >= 0.0, "of 0 or more")
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0 && number <= 1.0, "greater than 0 and at most 1")
}

fn template() -> impl TypedValueParser<Value = TemplateChoice> {
    words(&["auto", "model", "plain"])
}

fn too_long() -> impl TypedValueParser<Value = TooLong> {
    words(&["error", "drop", "truncate"])
}

fn format() -> impl TypedValueParser<Value = FormatChoice> {
    words(&FormatChoice::names().collect::<Vec<_>>())
}

/// Reads a word as run files do.
fn words<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    known: &[&'static str],
) -> impl TypedValueParser<Value = T> + use<T> {
    PossibleValuesParser::new(known.iter().copied()).try_map(|word| toml::Value::String(word).try_into::<T>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("hbat").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn settings_may_be_repeated() {
        let Command::Train(train) = parse("train run.toml --set a=1 --set b.c=[1,2] -o out --device cuda:1").unwrap().command
        else {
            panic!("train")
        };
        let request = Request::from(train);
        assert_eq!(request.set, ["a=1", "b.c=[1,2]"]);
        assert_eq!(request.device, Some(DeviceName::Cuda(1)));
    }

    #[test]
    fn every_command_of_the_documentation_is_understood() {
        let lines = [
            "train",
            "resume runs/a --device cpu --profile",
            "train run.toml --profile 5",
            "generate --model m --prompt hi --max-new-tokens 8 --temperature 0.7 --top-p 0.9 --top-k 40 --seed 1",
            "generate --model m --prompts p.jsonl --template plain",
            "eval --model m --reference r --demonstrations a --preferences b --json --per-example --limit 4",
            "eval --model m --demonstrations a --max-length 64 --too-long drop --template model --format alpaca",
            "record -o r.json --set beta=0.3 --set model=small",
            "record --seeds 20 --ghosts g.json",
            "lab --port 0 --host ::1 --open --dir wasm/www/dist",
            "devices --quiet",
            "recipes ls",
            "recipes cat toy",
            "recipes cp toy my.toml",
            "generate --model m --prompts p.jsonl --json --batch 4 -n 2 --format alpaca",
            "compare a.jsonl b.jsonl --reward-model r --rouge --max-length 512 --too-long drop -n 3 --json --per-example",
            "compare a.jsonl b.jsonl --rouge --format alpaca --others-format prompt-completion",
            "compare a b --judge http://h/v1 --judge-model g --question summary --verdicts v --request {} --concurrency 2 --seed 1",
            "data inspect f.jsonl --model m -n 2 --format prompt-completion",
        ];
        for line in lines {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[track_caller]
    fn refused(line: &str, part: &str) {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(part), "{line}: {error}");
    }

    #[test]
    fn wrong_usage_is_refused_with_what_is_right() {
        refused("trian", "'train'");
        refused("train --device gpu", "did you mean \"wgpu\"?");
        refused("train --profile 0", "1 or more");
        refused("eval --model m", "--demonstrations");
        refused("generate --model m", "--prompt");
        refused("generate --model m --prompt a --prompts b", "cannot be used with");
        refused("generate --model m --prompt a --temperature -1", "of 0 or more");
        refused("generate --model m --prompt a --top-p 0", "at most 1");
        refused("eval --model m --demonstrations a --format alpca", "'alpaca'");
        refused("eval --model m --demonstrations a --max-length 1", "2 or more");
        refused("compare a b", "--reward-model");
        refused("compare a", "OTHERS");
        refused("compare a b --judge http://h", "--judge-model");
        refused("compare a b --rouge --verdicts v", "--judge");
        refused("record", "--output");
        refused("record -o r.json --seeds 3", "--ghosts");
        refused("lab --host everywhere", "invalid IP address");
    }
}
