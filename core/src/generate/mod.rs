//! Generation, many texts together.
//!
//! Prompts of different lengths are padded on the right and read once, each at its own last token. Attention is causal, so padding changes
//! nothing, and positions count from 0 as in training; the distribution is that of left padding with position ids from the mask. After that
//! only new tokens run through the model, for the keys and values of those before them are kept.

mod sampling;

pub use sampling::{Sampling, Warp};

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::engine::{Texts, begin};
use crate::error::Error;
use crate::model::{Policy, Readout};
use crate::random::stream;
use crate::slab::floats;

/// Why nothing can be generated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// There is no position whose logits could be read.
    #[error("prompt {prompt} has no tokens; give it text or a beginning-of-sequence token")]
    EmptyPrompt {
        /// Which of the prompts, from 0.
        prompt: usize,
    },
    /// The model has no embedding for a token.
    #[error("prompt {prompt} has the token id {token}, but the model knows {vocab_size}; is this its tokenizer?")]
    UnknownToken {
        /// Which of the prompts, from 0.
        prompt: usize,
        /// The token id.
        token: u32,
        /// The model's number of ids.
        vocab_size: usize,
    },
    /// A reward model.
    #[error("the model has no vocabulary above it: it gives a value, and nothing can be generated")]
    NoVocabulary,
    /// A number that describes no distribution.
    #[error("`{setting}` is {value}, but it must be {rule}")]
    Setting {
        /// Its name in [`GenerateSettings`] or [`Warp`].
        setting: &'static str,
        /// What it says.
        value: f64,
        /// What would do.
        rule: &'static str,
    },
    /// The model is broken: NaN or infinite logits.
    #[error("the model's logits for prompt {prompt} are not finite after {position} new tokens; look for NaN in its weights")]
    NotFinite {
        /// Which of the prompts, from 0.
        prompt: usize,
        /// How many tokens had been generated.
        position: usize,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] Error),
}

/// What to generate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateSettings {
    /// The longest response.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// A response ends with the first of these.
    pub eos: Vec<u32>,
    /// Seed of the draws, which depend on it, the prompt's index and the position, and on nothing else.
    pub seed: u64,
    /// How many prompts run together: a matter of memory and speed.
    pub batch_size: usize,
}

impl Default for GenerateSettings {
    fn default() -> Self {
        Self { max_new_tokens: 256, sampling: Sampling::Greedy, eos: Vec::new(), seed: 0, batch_size: 64 }
    }
}

/// Why a response is no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It ended with an end-of-sequence token.
    Eos,
    /// It reached the longest length.
    Length,
}

/// A generated response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Its tokens, the end-of-sequence token included where there is one.
    pub tokens: Vec<u32>,
    /// Why it ends there.
    pub finish: Finish,
}

/// Continues each of the `prompts`, given as token ids; the completions come in the same order.
///
/// # Errors
/// A model with a value head, a prompt without tokens or with unknown ones, settings out of range, logits that are not finite, a device that fails.
pub async fn generate(
    policy: &Policy,
    prompts: &[Vec<u32>],
    settings: &GenerateSettings,
) -> Result<Vec<Completion>, GenerateError> {
    let places: Vec<u64> = (0..prompts.len() as u64).collect();
    generate_at(policy, prompts, &places, settings).await
}

/// The same for prompts that are some of many: draws depend on their places among all, not on which go together.
///
/// # Errors
/// As [`generate`]; prompts are named by their places.
///
/// # Panics
/// If there are not as many places as prompts.
pub async fn generate_at(
    policy: &Policy,
    prompts: &[Vec<u32>],
    places: &[u64],
    settings: &GenerateSettings,
) -> Result<Vec<Completion>, GenerateError> {
    assert_eq!(prompts.len(), places.len(), "a place for every prompt");
    check_settings(settings)?;
    if policy.readout() != Readout::LogProbs {
        return Err(GenerateError::NoVocabulary);
    }
    let numbered = || prompts.iter().zip(places);
    numbered().try_for_each(|(tokens, place)| check_prompt(tokens, *place, policy.config().vocab_size))?;
    let mut rows: Vec<Row> = numbered().map(|(tokens, place)| Row::new(*place, tokens)).collect();
    for rows in rows.chunks_mut(settings.batch_size) {
        generate_together(policy, rows, settings).await?;
    }
    Ok(rows.into_iter().map(|row| row.completion(&settings.eos)).collect())
}

async fn generate_together(policy: &Policy, rows: &mut [Row], settings: &GenerateSettings) -> Result<(), GenerateError> {
    if settings.max_new_tokens == 0 {
        return Ok(());
    }
    let mut rows: Vec<&mut Row> = rows.iter_mut().collect();
    let prompts: Vec<&[u32]> = rows.iter().map(|row| row.tokens.as_slice()).collect();
    let (mut texts, mut logits) = begin(policy, &Texts::prompts(&prompts));
    for position in 0.. {
        choose(&mut rows, &numbers(logits).await?, settings, position)?;
        let open: Vec<bool> = rows.iter().map(|row| !row.ended(&settings.eos)).collect();
        let count = open.iter().filter(|open| **open).count();
        if count == 0 || position + 1 == settings.max_new_tokens {
            break;
        }
        if texts.pays(count) {
            texts.keep(&open);
            rows.retain(|row| !row.ended(&settings.eos));
        }
        logits = texts.step(&rows.iter().map(|row| row.last()).collect::<Vec<_>>());
    }
    Ok(())
}

/// Gives each row that is not over its next token, from logits `[rows · V]` after `position` new ones.
fn choose(rows: &mut [&mut Row], logits: &[f32], settings: &GenerateSettings, position: usize) -> Result<(), GenerateError> {
    let vocabulary = logits.len() / rows.len();
    let next = |(row, logits): (&mut &mut Row, &[f32])| {
        if row.ended(&settings.eos) {
            return Ok(());
        }
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(GenerateError::NotFinite { prompt: row.place as usize, position });
        }
        let mut rng = stream(settings.seed, "generate", &[row.place, position as u64]);
        row.tokens.push(settings.sampling.choose(logits, &mut rng));
        Ok(())
    };
    // Whoever is first in time, the first row's error is told.
    let chosen: Vec<_> = rows.par_iter_mut().zip(logits.par_chunks(vocabulary)).map(next).collect();
    chosen.into_iter().collect()
}

/// A prompt and what has been generated after it.
struct Row {
    place: u64,
    prompt_len: usize,
    tokens: Vec<u32>,
}

impl Row {
    fn new(place: u64, tokens: &[u32]) -> Self {
        Self { place, prompt_len: tokens.len(), tokens: tokens.to_vec() }
    }

    /// Only a generated token ends a text: prompts may contain end-of-sequence tokens, as chat templates' do.
    fn ended(&self, eos: &[u32]) -> bool {
        self.tokens[self.prompt_len..].last().is_some_and(|last| eos.contains(last))
    }

    fn last(&self) -> i32 {
        self.tokens.last().map_or(0, |last| *last as i32)
    }

    fn completion(mut self, eos: &[u32]) -> Completion {
        let finish = if self.ended(eos) { Finish::Eos } else { Finish::Length };
        Completion { tokens: self.tokens.split_off(self.prompt_len), finish }
    }
}

/// Logits in ordinary memory.
async fn numbers(logits: Tensor<2>) -> Result<Vec<f32>, GenerateError> {
    let data = logits.into_data_async().await.map_err(Error::device)?;
    Ok(floats(data.convert_dtype(DType::F32))?)
}

fn check_prompt(tokens: &[u32], place: u64, vocab_size: usize) -> Result<(), GenerateError> {
    let prompt = place as usize;
    if tokens.is_empty() {
        return Err(GenerateError::EmptyPrompt { prompt });
    }
    match tokens.iter().find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(GenerateError::UnknownToken { prompt, token, vocab_size }),
        None => Ok(()),
    }
}

fn check_settings(settings: &GenerateSettings) -> Result<(), GenerateError> {
    let refuse = |setting, value, rule| Err(GenerateError::Setting { setting, value, rule });
    if settings.batch_size == 0 {
        return refuse("batch_size", 0.0, "at least 1");
    }
    let Sampling::Sample(warp) = settings.sampling else { return Ok(()) };
    if !(warp.temperature > 0.0 && warp.temperature.is_finite()) {
        return refuse("temperature", warp.temperature, "a finite number above 0 (greedy sampling is the limit at 0)");
    }
    if !(warp.top_p > 0.0 && warp.top_p <= 1.0) {
        return refuse("top_p", warp.top_p, "above 0 and at most 1 (which keeps every token)");
    }
    match warp.top_k {
        Some(0) => refuse("top_k", 0.0, "at least 1; leave it out to keep every token"),
        _ => Ok(()),
    }
}
