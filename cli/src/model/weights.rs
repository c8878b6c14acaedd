//! The files a model's weights lie in: one, or several with an index.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use hbat::model::{Family, LlamaConfig, Unit};
use serde::Deserialize;

use super::error::ModelError;
use crate::store::{TensorFile, TensorFileError};

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

const HEAD: &str = "lm_head.weight";

/// Weights that are found but not read.
#[derive(Debug)]
pub(super) struct Weights {
    /// What lists all tensors, for messages: the single file or the index.
    list: PathBuf,
    /// The file that the index names for each tensor; empty without one.
    listed: BTreeMap<String, String>,
    files: Vec<TensorFile>,
    /// The file of each tensor.
    places: HashMap<String, usize>,
}

impl Weights {
    /// Opens the single file, or else all files of the index, as transformers does.
    pub(super) fn open(folder: &Path) -> Result<Self, ModelError> {
        let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
        let (list, listed, paths) = if single.is_file() {
            (single.clone(), BTreeMap::new(), vec![single])
        } else if index.is_file() {
            let listed = listed(&index)?;
            let shards: BTreeSet<&String> = listed.values().collect();
            let paths = shards.into_iter().map(|shard| folder.join(shard)).collect();
            (index, listed, paths)
        } else {
            return Err(nothing_found(folder));
        };
        let files = paths.iter().map(|path| Ok(TensorFile::open(path)?)).collect::<Result<Vec<_>, ModelError>>()?;
        let of_file = |(place, file): (usize, &TensorFile)| file.names().into_iter().map(move |name| (name, place)).collect();
        let places = files.iter().enumerate().flat_map(|entry| -> Vec<(String, usize)> { of_file(entry) }).collect();
        Ok(Self { list, listed, files, places })
    }

    /// Checks that the configuration and the tensors belong together.
    pub(super) fn check(&self, config: &LlamaConfig) -> Result<(), ModelError> {
        // A mistyped number of layers must not make us list billions of units first.
        if config.num_hidden_layers > self.places.len() {
            return Err(self.missing(&format!("model.layers.{}.input_layernorm.weight", config.num_hidden_layers - 1)));
        }
        let units = config.units();
        for unit in &units {
            let (file, unit) = self.find(unit)?;
            file.check(&unit)?;
        }
        self.check_unexpected(config, &units)
    }

    /// A tied model's head, if the file has one, must be the embedding.
    pub(super) fn check_tied_head(&self, config: &LlamaConfig) -> Result<(), ModelError> {
        let (Some(&head), true) = (self.places.get(HEAD), config.tie_word_embeddings) else { return Ok(()) };
        let (file, embedding) = self.find(&config.units()[0])?;
        if self.files[head].same(HEAD, file, &embedding.name)? {
            return Ok(());
        }
        Err(ModelError::HeadNotTied { file: self.files[head].path().to_path_buf() })
    }

    pub(super) fn read(&self, unit: &Unit) -> Result<Vec<f32>, ModelError> {
        let (file, unit) = self.find(unit)?;
        Ok(file.read_finite(&unit)?)
    }

    pub(super) fn bytes_of(&self, unit: &Unit) -> u64 {
        self.find(unit).map_or(0, |(file, unit)| file.bytes_of(&unit.name))
    }

    /// A unit's file, and the unit under the name it has there: models saved without their head lack the prefix.
    fn find(&self, unit: &Unit) -> Result<(&TensorFile, Unit), ModelError> {
        let names = [unit.name.as_str(), without_prefix(&unit.name)];
        let found = names.into_iter().find_map(|name| Some((*self.places.get(name)?, name)));
        let (place, name) = found.ok_or_else(|| self.missing(&unit.name))?;
        Ok((&self.files[place], Unit { name: name.into(), ..unit.clone() }))
    }

    fn missing(&self, tensor: &str) -> ModelError {
        let path = self.listed.get(tensor).map_or_else(|| self.list.clone(), |shard| self.list.with_file_name(shard));
        TensorFileError::Missing { path, tensor: tensor.into() }.into()
    }

    /// Tensors of the decoder itself that the configuration does not mention would change what the model computes.
    fn check_unexpected(&self, config: &LlamaConfig, units: &[Unit]) -> Result<(), ModelError> {
        let known: HashSet<&str> = units.iter().flat_map(|unit| [unit.name.as_str(), without_prefix(&unit.name)]).collect();
        let unknown = |name: &&String| {
            let redundant = is_derived(name) || (config.tie_word_embeddings && name.as_str() == HEAD);
            !known.contains(name.as_str()) && !redundant && is_decoder(name)
        };
        let mut names: Vec<String> = self.places.keys().filter(unknown).cloned().collect();
        names.sort();
        let Some(first) = names.first() else { return Ok(()) };
        let biases = first.contains("self_attn") && first.ends_with(".bias");
        let output = names.iter().any(|name| name.ends_with("o_proj.bias"));
        let remedy = match (biases, output, config.architecture.family) {
            (true, true, Family::Llama | Family::Qwen3) => {
                "If the model's attention has biases, set `attention_bias` to true in config.json"
            }
            (true, false, _) => "Qwen2 has biases of queries, keys and values: then `model_type` is \"qwen2\" in config.json",
            _ => "config.json does not belong to these weights",
        };
        Err(ModelError::Unexpected { file: self.files[self.places[first]].path().to_path_buf(), names, remedy })
    }

    /// Tensors that belong to no decoder and no vocabulary, by name.
    pub(super) fn heads_of_others(&self) -> Vec<String> {
        let mut names: Vec<String> = self.places.keys().filter(|name| !is_decoder(name) && !is_derived(name)).cloned().collect();
        names.sort();
        names
    }
}

/// What an index says, whose files must all be there.
fn listed(index: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let json = |error: serde_json::Error| ModelError::Json { path: index.to_path_buf(), reason: error.to_string() };
    let text = fs::read(index).map_err(|reason| ModelError::Unreadable { path: index.to_path_buf(), reason })?;
    let listed = serde_json::from_slice::<Index>(&text).map_err(json)?.weight_map;
    let folder = index.parent().unwrap_or(Path::new("."));
    let absent = listed.values().find(|shard| !folder.join(shard).is_file());
    match absent {
        None => Ok(listed),
        Some(shard) => Err(ModelError::NoShard { index: index.to_path_buf(), shard: shard.clone() }),
    }
}

/// Says what is there instead of weights, and how to make weights of it.
fn nothing_found(folder: &Path) -> ModelError {
    const CONVERT: &str = "Convert it: `python -c \"from transformers import AutoModelForCausalLM as M; \
                           M.from_pretrained('FOLDER').save_pretrained('NEW')\"`, then copy the tokenizer's files";
    const KINDS: [(&str, &str); 6] = [
        (".index.json", "Fetch the safetensors files, not only the index"),
        ("adapter_model.safetensors", "Merge the adapter into its base model first (peft: `merge_and_unload`)"),
        (".safetensors", "Fetch model.safetensors.index.json too, or name a single file model.safetensors"),
        (".gguf", "GGUF is not read: fetch the original model in the Hugging Face layout"),
        (".bin", CONVERT),
        (".pth", CONVERT),
    ];
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let found = KINDS.iter().find_map(|(end, remedy)| Some((names.iter().find(|name| name.ends_with(end))?, *remedy)));
    let path = folder.to_path_buf();
    match found {
        Some((name, remedy)) => ModelError::NoWeights { path, found: format!(", but {name}"), remedy },
        None => ModelError::NoWeights { path, found: String::new(), remedy: "Fetch the model's weights into the folder" },
    }
}

fn without_prefix(name: &str) -> &str {
    name.strip_prefix("model.").unwrap_or(name)
}

/// Whether a tensor is part of a decoder or its vocabulary head.
fn is_decoder(name: &str) -> bool {
    let name = without_prefix(name);
    ["layers.", "embed_tokens.", "norm."].iter().any(|start| name.starts_with(start)) || name.starts_with("lm_head.")
}

/// Old versions of transformers saved what they could have computed.
fn is_derived(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_decoder_are_told_from_other_heads() {
        for name in
            ["model.embed_tokens.weight", HEAD, "model.layers.0.mlp.up_proj.weight", "layers.0.x", "norm.weight", "lm_head.bias"]
        {
            assert!(is_decoder(name), "{name}");
        }
        for name in ["v_head.summary.weight", "score.weight", "normaliser.mean"] {
            assert!(!is_decoder(name), "{name}");
        }
        assert!(is_derived("model.layers.3.self_attn.rotary_emb.inv_freq"));
    }
}
