//! Arguments of the commands that use models and train none.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use hbat_backends::DeviceName;

use super::{at_least_one, at_least_two, format, not_negative, positive, probability, template, too_long};
use crate::config::FormatChoice;
use crate::data::{TemplateChoice, TooLong};

/// `hbat generate`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Generate {
    /// A model's folder in Hugging Face layout, such as a run's `best`.
    #[arg(short, long, value_name = "DIR")]
    pub model: PathBuf,
    /// Where the prompts come from.
    #[command(flatten)]
    pub prompts: Prompts,
    /// Tokens to generate at most.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token; larger values take others more often.
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = not_negative, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Sample from the likeliest tokens that together have this probability.
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = probability, allow_negative_numbers = true)]
    pub top_p: f64,
    /// Sample from the K likeliest tokens; 0: from all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Where all randomness comes from.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Answer the first N prompts.
    #[arg(short = 'n', long, value_name = "N", value_parser = at_least_one, conflicts_with = "prompt")]
    pub limit: Option<usize>,
    /// Prompts that are answered together.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub batch: usize,
    /// Print a line of JSON per answer, which `eval` and `compare` read as an example.
    #[arg(long)]
    pub json: bool,
    /// How columns of a file make up an example.
    #[arg(long, default_value = "auto", value_parser = format(), conflicts_with = "prompt")]
    pub format: FormatChoice,
    /// How prompts are worded: a typed one is a message where there is a chat template.
    #[arg(long, default_value = "auto", value_parser = template())]
    pub template: TemplateChoice,
    /// cpu, wgpu, wgpu:N, cuda or cuda:N.
    #[arg(short, long, value_name = "DEVICE", default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,
}

/// Prompts from the command line or from a file.
#[derive(Debug, Clone, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct Prompts {
    /// One prompt.
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// A text with one prompt per line, or examples (JSONL, JSON, Parquet) whose prompts are taken.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
}

/// `hbat eval`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Eval {
    /// A model's folder in Hugging Face layout, such as a run's `best`.
    #[arg(short, long, value_name = "DIR")]
    pub model: PathBuf,
    /// The model that rewards are measured against, for DPO's loss, margin and accuracy.
    #[arg(short, long, value_name = "DIR", requires = "preferences")]
    pub reference: Option<PathBuf>,
    /// What to measure on.
    #[command(flatten)]
    pub files: Files,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Report every example.
    #[arg(long)]
    pub per_example: bool,
    /// Use the first N examples of each kind.
    #[arg(short = 'n', long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<usize>,
    /// DPO's beta, for its loss and margin.
    #[arg(long, value_name = "BETA", default_value_t = 0.1, value_parser = positive, allow_negative_numbers = true)]
    pub beta: f64,
    /// How texts become tokens.
    #[command(flatten)]
    pub reading: Reading,
    /// Sequences per forward pass.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub micro_batch: usize,
    /// cpu, wgpu, wgpu:N, cuda or cuda:N.
    #[arg(short, long, value_name = "DEVICE", default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,
}

/// Files of examples, at least one.
#[derive(Debug, Clone, ClapArgs)]
#[group(required = true, multiple = true)]
pub struct Files {
    /// Prompts with a response; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub demonstrations: Vec<PathBuf>,
    /// Prompts with a chosen and a rejected response; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub preferences: Vec<PathBuf>,
}

/// How a file's examples become tokens.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Reading {
    /// Tokens of prompt and response together.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = at_least_two)]
    pub max_length: usize,
    /// What to do about longer examples.
    #[arg(long, default_value = "error", value_parser = too_long())]
    pub too_long: TooLong,
    /// How prompts are worded.
    #[arg(long, default_value = "auto", value_parser = template())]
    pub template: TemplateChoice,
    /// How columns make up an example.
    #[arg(long, default_value = "auto", value_parser = format())]
    pub format: FormatChoice,
}

/// `hbat compare`.
#[derive(Debug, Clone, ClapArgs)]
#[group(id = "measure", required = true, multiple = true, args = ["reward_model", "url", "rouge"])]
pub struct Compare {
    /// Answers, as `hbat generate --json` prints them: examples with a response (JSONL, JSON, Parquet).
    #[arg(value_name = "ANSWERS")]
    pub answers: PathBuf,
    /// Answers to the same prompts to compare them with; of preferences, the chosen ones.
    #[arg(value_name = "OTHERS")]
    pub others: PathBuf,
    /// Compare the rewards that this model gives.
    #[arg(long, value_name = "DIR")]
    pub reward_model: Option<PathBuf>,
    /// A language model that judges.
    #[command(flatten)]
    pub judge: JudgeOptions,
    /// Score ANSWERS by the words they share with OTHERS.
    #[arg(long)]
    pub rouge: bool,
    /// Compare the first N answers.
    #[arg(short = 'n', long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<usize>,
    /// What draws which answer a judge sees first.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "url")]
    pub seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Report every comparison.
    #[arg(long)]
    pub per_example: bool,
    /// How texts become the reward model's tokens, and columns of ANSWERS make up an example.
    #[command(flatten)]
    pub reading: Reading,
    /// How columns of OTHERS make up an example.
    #[arg(long, default_value = "auto", value_parser = format())]
    pub others_format: FormatChoice,
    /// Sequences that the reward model reads together.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub micro_batch: usize,
    /// cpu, wgpu, wgpu:N, cuda or cuda:N.
    #[arg(short, long, value_name = "DEVICE", default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,
}

/// A language model behind an API, for `hbat compare`.
#[derive(Debug, Clone, ClapArgs)]
pub struct JudgeOptions {
    /// Ask a language model which answer is better, at an OpenAI-compatible API that begins here, such as http://localhost:8000/v1. A key is taken from
    /// OPENAI_API_KEY.
    #[arg(long = "judge", value_name = "URL", requires = "judge_model")]
    pub url: Option<String>,
    /// The judge's name there.
    #[arg(long, value_name = "NAME", requires = "url")]
    pub judge_model: Option<String>,
    /// What it is asked: helpful, summary, or a file with a Jinja template that prints prompt, a and b.
    #[arg(long, value_name = "QUESTION", default_value = "helpful", requires = "url")]
    pub question: String,
    /// Further fields of requests, as a JSON object; null takes one out.
    #[arg(long, value_name = "JSON", requires = "url")]
    pub request: Option<String>,
    /// Keep replies in this file, and ask nothing again that it answers.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub verdicts: Option<PathBuf>,
    /// Questions asked at the same time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one, requires = "url")]
    pub concurrency: usize,
}
