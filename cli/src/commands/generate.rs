//! `hbat generate`: a model's answers to prompts.

use std::io::Write;

use anyhow::Context;
use hbat::generate::{GenerateSettings, Sampling, Warp, generate};

use crate::args::Generate;
use crate::data::{Codec, CodecOptions, Text, TooLong, load_prompts};
use crate::model::ModelFolder;
use crate::report::{Bar, tell};
use crate::run::compute;
use crate::text::Special;

pub(super) async fn run(options: &Generate) -> anyhow::Result<i32> {
    let folder = ModelFolder::open(&options.model)?.language_model()?;
    let longest = folder.config().max_position_embeddings.max(2);
    let codec = CodecOptions { template: options.template, max_length: longest, too_long: TooLong::Error };
    let codec = Codec::load(&options.model, codec)?;
    folder.check_vocabulary(codec.tokenizer().vocabulary())?;
    let prompts = prompts(options, &codec)?;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0) + options.max_new_tokens;
    if longest > codec.max_length() {
        let made_for = codec.max_length();
        tell(format_args!("warning: texts may become {longest} tokens long, and the model was made for {made_for}"));
    }
    let mut bar = Bar::bytes("weights", folder.bytes());
    let policy = folder.load(compute(options.device)?, |bytes| bar.advance(bytes))?;
    drop(bar);
    let completions = generate(&policy, &prompts, &settings(options, &codec)?).await?;
    let mut out = std::io::stdout().lock();
    let text = |tokens: &[u32]| codec.tokenizer().decode(tokens, Special::Hidden);
    for (prompt, completion) in prompts.iter().zip(completions) {
        let answer = text(&completion.tokens)?;
        if prompts.len() > 1 { writeln!(out, "> {}\n{answer}\n", text(prompt)?.trim())? } else { writeln!(out, "{answer}")? }
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

/// The tokens of the one prompt, or of every prompt of a file.
fn prompts(options: &Generate, codec: &Codec) -> anyhow::Result<Vec<Vec<u32>>> {
    match (&options.prompts.prompt, &options.prompts.prompts) {
        (Some(prompt), _) => {
            let tokens = codec.prompt(&Text::Plain(prompt.clone())).with_context(|| format!("prompt {prompt:?}"))?;
            Ok(vec![tokens])
        }
        (None, Some(file)) => Ok(load_prompts(file, codec)?),
        (None, None) => unreachable!("clap requires one of them"),
    }
}
