//! The passes of a step and their arithmetic.

use crate::engine::Engine;
use crate::model::{HeadKind, LlamaConfig};
use crate::tokens::{Group, packed};
use crate::trainer::Settings;
use crate::trainer::agenda::passes;

/// The size of one forward and backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// Rows: of sequences, unless they are packed.
    pub rows: usize,
    /// Tokens of a row.
    pub width: usize,
    /// Sequences.
    pub sequences: usize,
    /// Tokens without padding.
    pub tokens: usize,
    /// Response tokens.
    pub reads: usize,
    /// Σ length² over the sequences.
    pub squares: usize,
}

impl Pass {
    /// The passes of a step, cut as the trainer cuts them.
    pub(super) fn of_step(groups: &[Group], examples: &[usize], settings: &Settings) -> Vec<Self> {
        let passes = passes(groups, examples.to_vec(), settings);
        passes.iter().map(|part| Self::one(groups, part, settings)).collect()
    }

    /// All examples in one pass.
    pub(super) fn one(groups: &[Group], examples: &[usize], settings: &Settings) -> Self {
        let mut pass = Self { width: settings.pack.unwrap_or(0), ..Self::default() };
        let bucket = if settings.pack.is_some() { 1 } else { settings.bucket.max(1) };
        for sequence in examples.iter().flat_map(|&example| &groups[example].sequences) {
            let length = sequence.tokens().len();
            pass.sequences += 1;
            pass.width = pass.width.max(length.next_multiple_of(bucket));
            pass.tokens += length;
            pass.reads += sequence.response().len();
            pass.squares += length * length;
        }
        pass.rows = pass.sequences;
        if settings.pack.is_some() {
            let lengths = examples.iter().flat_map(|&example| &groups[example].sequences).map(|s| s.tokens().len());
            pass.rows = packed(lengths, pass.width).into_iter().map(|(row, _)| row + 1).max().unwrap_or(0);
        }
        pass
    }
}

/// Floating-point operations of a forward and backward pass: two per multiplication of a matrix product, attention's causal
/// half alone; the backward pass counts as two forward ones.
pub fn flops(config: &LlamaConfig, engine: Engine, pass: &Pass) -> f64 {
    forward_flops(config, pass) * (engine.forwards() + 2.0)
}

/// Those of a forward pass.
pub(super) fn forward_flops(config: &LlamaConfig, pass: &Pass) -> f64 {
    let (d, f) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let matrices = d * (2 * q + 2 * kv + 3 * f);
    let head = match config.architecture.head {
        HeadKind::Vocabulary => d * config.vocab_size,
        HeadKind::Value => d,
    };
    let layer = 2.0 * (matrices * pass.tokens) as f64 + 2.0 * (q * pass.squares) as f64;
    config.num_hidden_layers as f64 * layer + 2.0 * (head * pass.reads) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::skill::Size;

    #[test]
    fn a_step_is_six_operations_per_weight_and_token_and_what_attention_adds() {
        let config = Size::Small.config();
        let pass = Pass { rows: 1, width: 10, sequences: 1, tokens: 10, reads: 10, squares: 100 };
        let units = config.units();
        let norms: usize = units.iter().filter(|unit| unit.is_vector()).map(|unit| unit.elements()).sum();
        let embedding = if config.tie_word_embeddings { 0 } else { units[0].elements() };
        let weights = units.iter().map(|unit| unit.elements()).sum::<usize>() - norms - embedding;
        let attention = config.num_hidden_layers * 2 * config.num_attention_heads * config.head_dim * 100;
        let expect = 6.0 * (weights * 10) as f64 + 3.0 * attention as f64;
        assert_eq!(flops(&config, Engine::Whole, &pass), expect);
        assert_eq!(flops(&config, Engine::Segmented, &pass), expect / 3.0 * 4.0);
    }
}
