//! The head of a model that is to become a reward model.

use super::LlamaConfig;
use crate::random::{normal, stream};

/// Weights of a value head `[1, D]` that has learned nothing yet: normal with variance 1 / (D + 1), as Stiennon et al. (2020, appendix B.1)
/// draw them.
pub fn fresh_value_head(config: &LlamaConfig, seed: u64) -> Vec<f32> {
    let std = 1.0 / (config.hidden_size as f64 + 1.0).sqrt();
    let mut rng = stream(seed, "value head", &[]);
    (0..config.hidden_size).map(|_| (std * normal(&mut rng)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_as_long_as_the_residual_stream_is_wide() {
        let text =
            r#"{"vocab_size": 8, "hidden_size": 4096, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2}"#;
        let config: LlamaConfig = serde_json::from_str(text).unwrap();
        let head = fresh_value_head(&config, 1);
        let squares: f32 = head.iter().map(|w| w * w).sum();
        assert!(head.len() == 4096 && (squares - 1.0).abs() < 0.1, "{squares}");
        assert_eq!(head, fresh_value_head(&config, 1));
        assert_ne!(head, fresh_value_head(&config, 2));
    }
}
