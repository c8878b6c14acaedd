//! Generation: batched and without a cache, every step runs the whole text through the model.
//!
//! Prompts of different lengths are padded on the right and each row is read at its own last token. Attention is causal,
//! so padding changes nothing, and positions count from 0 as in training; the distribution is that of left padding with
//! position ids from the mask.

mod sampling;

pub use sampling::{Sampling, Warp};

use burn::tensor::{DType, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::model::{LayerInput, Policy};
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
/// A prompt without tokens or with unknown ones, settings out of range, logits that are not finite, a device that fails.
pub async fn generate(
    policy: &Policy,
    prompts: &[Vec<u32>],
    settings: &GenerateSettings,
) -> Result<Vec<Completion>, GenerateError> {
    check_settings(settings)?;
    check_prompts(prompts, policy.config().vocab_size)?;
    let mut rows: Vec<Row> = prompts.iter().enumerate().map(|(prompt, tokens)| Row::new(prompt, tokens)).collect();
    for rows in rows.chunks_mut(settings.batch_size) {
        generate_together(policy, rows, settings).await?;
    }
    Ok(rows.into_iter().map(|row| row.completion(&settings.eos)).collect())
}

async fn generate_together(policy: &Policy, rows: &mut [Row], settings: &GenerateSettings) -> Result<(), GenerateError> {
    for position in 0..settings.max_new_tokens {
        let mut open: Vec<&mut Row> = rows.iter_mut().filter(|row| !row.ended(&settings.eos)).collect();
        if open.is_empty() {
            break;
        }
        let texts: Vec<&[u32]> = open.iter().map(|row| row.tokens.as_slice()).collect();
        let logits = next_logits(policy, &texts).await?;
        for (row, logits) in open.iter_mut().zip(logits.chunks(policy.config().vocab_size)) {
            if !logits.iter().all(|logit| logit.is_finite()) {
                return Err(GenerateError::NotFinite { prompt: row.prompt, position });
            }
            let mut rng = stream(settings.seed, "generate", &[row.prompt as u64, position as u64]);
            row.tokens.push(settings.sampling.choose(logits, &mut rng));
        }
    }
    Ok(())
}

/// A prompt and what has been generated after it.
struct Row {
    prompt: usize,
    prompt_len: usize,
    tokens: Vec<u32>,
}

impl Row {
    fn new(prompt: usize, tokens: &[u32]) -> Self {
        Self { prompt, prompt_len: tokens.len(), tokens: tokens.to_vec() }
    }

    /// Only a generated token ends a text: prompts may contain end-of-sequence tokens, as chat templates' do.
    fn ended(&self, eos: &[u32]) -> bool {
        self.tokens[self.prompt_len..].last().is_some_and(|last| eos.contains(last))
    }

    fn completion(mut self, eos: &[u32]) -> Completion {
        let finish = if self.ended(eos) { Finish::Eos } else { Finish::Length };
        Completion { tokens: self.tokens.split_off(self.prompt_len), finish }
    }
}

/// The logits after the last token of each text, `[rows * V]`; only these are read back.
async fn next_logits(policy: &Policy, texts: &[&[u32]]) -> Result<Vec<f32>, GenerateError> {
    let device = &policy.compute().device;
    let width = texts.iter().map(|text| text.len()).max().unwrap_or(0);
    let mut tokens = vec![0i32; texts.len() * width];
    let mut reads = Vec::with_capacity(texts.len());
    for (row, text) in texts.iter().enumerate() {
        let start = row * width;
        tokens.iter_mut().skip(start).zip(*text).for_each(|(cell, &token)| *cell = token as i32);
        reads.push((start + text.len() - 1) as i32);
    }
    let tensor = |values: Vec<i32>| {
        let count = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [count]), device)
    };
    let decoder = policy.decoder();
    let shared = LayerInput::new(policy.config(), texts.len(), width, device);
    let hidden = decoder.hidden(tensor(tokens), &shared).select(0, tensor(reads)); // [rows, D]
    let logits = decoder.norm(hidden).matmul(decoder.head()); // [rows, V]
    let data = logits.into_data_async().await.map_err(Error::device)?;
    Ok(floats(data.convert_dtype(DType::F32))?)
}

fn check_prompts(prompts: &[Vec<u32>], vocab_size: usize) -> Result<(), GenerateError> {
    for (prompt, tokens) in prompts.iter().enumerate() {
        if tokens.is_empty() {
            return Err(GenerateError::EmptyPrompt { prompt });
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(GenerateError::UnknownToken { prompt, token, vocab_size });
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use burn::tensor::Device;
    use serde_json::Value;

    use super::*;
    use crate::compute::Compute;
    use crate::model::{InitError, Storage, Unit};
    use crate::toy::random_policy;

    fn ready<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("Flex computes at once"),
        }
    }

    fn tiny() -> Policy {
        let config = r#"{"vocab_size": 23, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 2}"#;
        random_policy(serde_json::from_str(config).unwrap(), Compute::host(Device::flex()), 4)
    }

    fn prompts() -> Vec<Vec<u32>> {
        vec![vec![3], vec![1, 2, 3, 4, 5], vec![9, 8], vec![7, 7, 7, 1]]
    }

    fn settings(sampling: Sampling) -> GenerateSettings {
        GenerateSettings { max_new_tokens: 9, sampling, eos: vec![], seed: 5, batch_size: 64 }
    }

    fn sampled() -> GenerateSettings {
        settings(Sampling::Sample(Warp { temperature: 1.5, top_k: Some(20), top_p: 0.95 }))
    }

    fn golden(name: &str) -> Value {
        let path = format!("{}/../tests/goldens/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))).unwrap()
    }

    fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn golden_policy(golden: &Value) -> Policy {
        let config = serde_json::from_value(golden["config"].clone()).unwrap();
        let read = |unit: &Unit| {
            let values: Vec<f32> = numbers(&golden["weights"][&unit.name]["data"]);
            let [rows, columns] = unit.dims();
            let values = match unit.storage {
                Storage::AsIs => values,
                Storage::Transposed => (0..rows * columns).map(|i| values[i % columns * rows + i / columns]).collect(),
            };
            Ok::<_, InitError>(TensorData::new(values, [rows, columns]))
        };
        Policy::load(config, Compute::host(Device::flex()), read).unwrap()
    }

    #[test]
    fn greedy_continuations_are_those_of_transformers() {
        let golden_file = golden("generation.json");
        let greedy = &golden_file["greedy"];
        let policy = golden_policy(&golden(greedy["model"].as_str().unwrap()));
        let prompts: Vec<Vec<u32>> = numbers(&greedy["prompts"]);
        let expect: Vec<Vec<u32>> = numbers(&greedy["continuations"]);
        let settings = GenerateSettings { max_new_tokens: expect[0].len(), ..settings(Sampling::Greedy) };
        let found = ready(generate(&policy, &prompts, &settings)).unwrap();
        assert_eq!(found.into_iter().map(|completion| completion.tokens).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn kept_tokens_and_their_probabilities_are_those_of_transformers() {
        for case in golden("generation.json")["warped"].as_array().unwrap() {
            let warp: Warp = serde_json::from_value(serde_json::json!({
                "temperature": case["temperature"], "top_k": case["top_k"], "top_p": case["top_p"]
            }))
            .unwrap();
            let mut found = warp.distribution(&numbers::<Vec<f32>>(&case["logits"]));
            found.sort_by_key(|(token, _)| *token);
            let expect: Vec<f64> = numbers(&case["probabilities"]);
            assert_eq!(found.iter().map(|(token, _)| *token).collect::<Vec<_>>(), numbers::<Vec<u32>>(&case["kept"]), "{warp:?}");
            assert!(found.iter().zip(&expect).all(|((_, p), q)| (p - q).abs() < 1e-6), "{warp:?}: {found:?}, not {expect:?}");
        }
    }

    #[test]
    fn batching_changes_nothing() {
        for settings in [settings(Sampling::Greedy), sampled()] {
            let together = ready(generate(&tiny(), &prompts(), &settings)).unwrap();
            for batch_size in [1, 3] {
                let settings = GenerateSettings { batch_size, ..settings.clone() };
                assert_eq!(ready(generate(&tiny(), &prompts(), &settings)).unwrap(), together, "batches of {batch_size}");
            }
        }
    }

    #[test]
    fn draws_depend_on_the_seed() {
        let with = |seed| ready(generate(&tiny(), &prompts(), &GenerateSettings { seed, ..sampled() })).unwrap();
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn a_response_ends_with_its_first_end_of_sequence_token() {
        let free = ready(generate(&tiny(), &prompts(), &sampled())).unwrap();
        let eos = free[1].tokens[3];
        let ended = ready(generate(&tiny(), &prompts(), &GenerateSettings { eos: vec![eos], ..sampled() })).unwrap();
        for (free, ended) in free.iter().zip(&ended) {
            let expect = free.tokens.iter().position(|&token| token == eos).map(|at| &free.tokens[..=at]);
            assert_eq!(ended.tokens, expect.unwrap_or(&free.tokens));
            assert_eq!(ended.finish == Finish::Eos, expect.is_some());
        }
        assert_eq!(ended[1].finish, Finish::Eos);
        assert!(free.iter().all(|completion| completion.finish == Finish::Length && completion.tokens.len() == 9));
    }

    #[test]
    fn a_prompt_may_end_with_the_end_of_sequence_token() {
        let settings = GenerateSettings { eos: vec![3], max_new_tokens: 2, ..settings(Sampling::Greedy) };
        assert!(!ready(generate(&tiny(), &[vec![3]], &settings)).unwrap()[0].tokens.is_empty());
    }

    fn refused(policy: &Policy, prompts: &[Vec<u32>], settings: &GenerateSettings, expect: &str) {
        let error = ready(generate(policy, prompts, settings)).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn what_cannot_be_continued_is_refused() {
        let greedy = settings(Sampling::Greedy);
        refused(&tiny(), &[vec![1], vec![]], &greedy, "prompt 1 has no tokens");
        refused(&tiny(), &[vec![1, 23]], &greedy, "prompt 0 has the token id 23, but the model knows 23");
        refused(&tiny(), &[vec![1]], &GenerateSettings { batch_size: 0, ..greedy }, "`batch_size` is 0");
        let warp = |warp| settings(Sampling::Sample(warp));
        refused(&tiny(), &[vec![1]], &warp(Warp { temperature: 0.0, ..Warp::default() }), "`temperature` is 0");
        refused(&tiny(), &[vec![1]], &warp(Warp { top_p: f64::NAN, ..Warp::default() }), "`top_p` is NaN");
        refused(&tiny(), &[vec![1]], &warp(Warp { top_k: Some(0), ..Warp::default() }), "`top_k` is 0");
    }

    #[test]
    fn a_broken_model_is_reported_and_not_sampled_from() {
        let mut policy = tiny();
        policy.tensors_mut()[0].inplace(|embedding| embedding * f32::NAN);
        refused(&policy, &[vec![1]], &sampled(), "logits for prompt 0 are not finite after 0 new tokens");
    }
}
