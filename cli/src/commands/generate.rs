//! `hbat generate`: a model's answers to prompts.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use hbat::generate::{GenerateSettings, Sampling, Warp, generate};

use crate::args::Generate;
use crate::data::{Codec, CodecOptions, DataError, Text, TooLong};
use crate::model::ModelFolder;
use crate::report::Bar;
use crate::run::compute;
use crate::text::Special;

pub(super) async fn run(options: &Generate) -> anyhow::Result<i32> {
    let folder = ModelFolder::open(&options.model)?.language_model()?;
    let longest = folder.config().max_position_embeddings.max(2);
    let codec = CodecOptions { template: options.template, max_length: longest, too_long: TooLong::Error };
    let codec = Codec::load(&options.model, codec)?;
    folder.check_vocabulary(codec.tokenizer().vocabulary())?;
    let texts = prompts(options)?;
    let mut tokens = Vec::with_capacity(texts.len());
    for text in &texts {
        tokens.push(codec.prompt(&Text::Plain(text.clone())).with_context(|| format!("prompt {text:?}"))?);
    }
    let mut bar = Bar::bytes("weights", folder.bytes());
    let policy = folder.load(compute(options.device)?, |bytes| bar.advance(bytes))?;
    drop(bar);
    let completions = generate(&policy, &tokens, &settings(options, &codec)?).await?;
    let mut out = std::io::stdout().lock();
    for (text, completion) in texts.iter().zip(completions) {
        let answer = codec.tokenizer().decode(&completion.tokens, Special::Hidden)?;
        if texts.len() > 1 { writeln!(out, "> {text}\n{answer}\n")? } else { writeln!(out, "{answer}")? }
    }
    Ok(0)
}

fn settings(options: &Generate, codec: &Codec) -> anyhow::Result<GenerateSettings> {
    let warp =
        Warp { temperature: options.temperature, top_p: options.top_p, top_k: (options.top_k > 0).then_some(options.top_k) };
    let sampling = if options.temperature == 0.0 { Sampling::Greedy } else { Sampling::Sample(warp) };
    let eos = vec![codec.tokenizer().end()?];
    Ok(GenerateSettings {
        max_new_tokens: options.max_new_tokens,
        sampling,
        eos,
        seed: options.seed,
        ..GenerateSettings::default()
    })
}

/// The one prompt, or every line of a file that is not empty.
fn prompts(options: &Generate) -> anyhow::Result<Vec<String>> {
    match (&options.prompts.prompt, &options.prompts.prompts) {
        (Some(prompt), _) => Ok(vec![prompt.clone()]),
        (None, Some(file)) => lines(file),
        (None, None) => unreachable!("clap requires one of them"),
    }
}

fn lines(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read as text", file.display()))?;
    let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(DataError::NoFiles { kind: "prompts" }.into());
    }
    Ok(lines)
}
