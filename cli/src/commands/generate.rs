//! `hbat generate`: a model's answers to prompts.

use std::io::{IsTerminal, StdoutLock, Write};

use anyhow::Context;
use hbat::generate::{Completion, GenerateSettings, Sampling, Warp, generate_at};

use crate::args::Generate;
use crate::data::{Codec, CodecOptions, Prompt, ReadOptions, TooLong, load_prompts, written};
use crate::model::ModelFolder;
use crate::report::{Bar, harmless};
use crate::run::compute;
use crate::text::Special;

use super::reading::{check_length, load};

pub(super) async fn run(options: &Generate) -> anyhow::Result<i32> {
    let folder = ModelFolder::open(&options.model)?.language_model()?;
    let longest = folder.config().max_position_embeddings.max(2);
    let codec = CodecOptions { template: options.template, max_length: longest, too_long: TooLong::Error };
    let codec = Codec::load(&options.model, codec)?;
    folder.check_vocabulary(codec.tokenizer().vocabulary())?;
    let prompts = prompts(options, &codec)?;
    let longest = prompts.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or(0) + options.max_new_tokens;
    check_length(&folder, longest)?;
    let policy = load(&folder, &compute(options.device)?)?;
    let settings = settings(options, &codec, folder.ends())?;
    let shape = Shape::of(options, prompts.len());
    let mut bar = Bar::items("answers", prompts.len() as u64);
    for (part, prompts) in prompts.chunks(options.batch).enumerate() {
        let tokens: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
        let places: Vec<u64> = (0..prompts.len()).map(|place| (part * options.batch + place) as u64).collect();
        let completions = generate_at(&policy, &tokens, &places, &settings).await?;
        let mut out = std::io::stdout().lock();
        for (prompt, completion) in prompts.iter().zip(&completions) {
            let text = codec.tokenizer().decode(&completion.tokens, Special::Hidden)?;
            bar.hidden(|| shape.write(&mut out, prompt, completion, &text))?;
        }
        // So that whoever reads along, or stops here, has all that is there.
        out.flush()?;
        bar.advance(prompts.len() as u64);
    }
    Ok(0)
}

/// How answers are printed.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// The only one there is.
    Alone,
    /// Below its prompt.
    BelowPrompt,
    /// A line of JSON that readers of examples understand.
    Json,
}

impl Shape {
    fn of(options: &Generate, prompts: usize) -> Self {
        match (options.json, prompts) {
            (true, _) => Self::Json,
            (false, 1) => Self::Alone,
            (false, _) => Self::BelowPrompt,
        }
    }

    fn write(self, out: &mut StdoutLock, prompt: &Prompt, completion: &Completion, answer: &str) -> std::io::Result<()> {
        // A file gets what the model said to the letter.
        let shown = |text: &str| if out.is_terminal() { harmless(text) } else { text.to_owned() };
        match self {
            Self::Alone => writeln!(out, "{}", shown(answer)),
            Self::BelowPrompt => writeln!(out, "> {}\n{}\n", shown(prompt.text.readable().trim()), shown(answer)),
            Self::Json => {
                let mut record = written(&prompt.text, answer, completion.finish);
                record.insert("tokens".to_owned(), completion.tokens.len().into());
                writeln!(out, "{}", serde_json::Value::Object(record))
            }
        }
    }
}

/// Answers end as the model's folder says, and where the tokenizer ends texts.
fn settings(options: &Generate, codec: &Codec, ends: Vec<u32>) -> anyhow::Result<GenerateSettings> {
    let warp =
        Warp { temperature: options.temperature, top_p: options.top_p, top_k: (options.top_k > 0).then_some(options.top_k) };
    let sampling = if options.temperature == 0.0 { Sampling::Greedy } else { Sampling::Sample(warp) };
    let eos = ends.into_iter().chain([codec.tokenizer().end()?]).collect();
    Ok(GenerateSettings { max_new_tokens: options.max_new_tokens, sampling, eos, seed: options.seed, batch_size: options.batch })
}

/// The one prompt, or every prompt of a file.
fn prompts(options: &Generate, codec: &Codec) -> anyhow::Result<Vec<Prompt>> {
    match (&options.prompts.prompt, &options.prompts.prompts) {
        (Some(prompt), _) => Ok(vec![Prompt::typed(prompt.clone(), codec).with_context(|| format!("prompt {prompt:?}"))?]),
        (None, Some(file)) => {
            let read = ReadOptions { format: options.format.into(), limit: options.limit, ..ReadOptions::default() };
            Ok(load_prompts(file, &read, codec)?)
        }
        (None, None) => unreachable!("clap requires one of them"),
    }
}
