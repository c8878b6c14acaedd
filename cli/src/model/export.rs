//! Writing a model folder that transformers, vLLM and llama.cpp load.

use std::borrow::Cow;
use std::path::Path;

use hbat::model::{HeadKind, LlamaConfig, Policy, RopeScaling, Storage, Unit};
use serde_json::{Map, Value, json};

use super::classifier::{self, Texts};
use super::error::ModelError;
use super::folder::{COMPANIONS, ModelFolder};
use super::weights::{INDEX, SINGLE};
use crate::store::{Aside, SaveDtype, TensorFileWriter, TensorSpec, transposed, write_file};

/// What transformers used to cut at.
const FIVE_GB: u64 = 5_000_000_000;

/// Token ids that generation needs to know, for models that come from no folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpecialTokens {
    /// Begins a sequence.
    pub bos: Option<u32>,
    /// Ends a sequence.
    pub eos: Option<u32>,
    /// Fills short sequences.
    pub pad: Option<u32>,
}

/// How a model is to be written.
#[derive(Debug, Clone)]
pub struct Export<'a> {
    /// The model's configuration.
    pub config: &'a LlamaConfig,
    /// The folder the model came from: its `config.json` is kept but for the precision, its tokenizer is carried along.
    pub source: Option<&'a ModelFolder>,
    /// Precision of the weights.
    pub dtype: SaveDtype,
    /// Files larger than this are split between tensors.
    pub largest_file: u64,
    /// Written into `config.json` where there is no `source`.
    pub tokens: SpecialTokens,
}

impl<'a> Export<'a> {
    /// In f32 and files of at most 5 GB.
    pub fn new(config: &'a LlamaConfig, source: Option<&'a ModelFolder>) -> Self {
        Self { config, source, dtype: SaveDtype::F32, largest_file: FIVE_GB, tokens: SpecialTokens::default() }
    }

    /// Writes a policy's weights; a folder of an earlier export is replaced.
    ///
    /// # Errors
    /// If the device or the disk fails; `folder` is then what it was.
    pub async fn write_policy(&self, policy: &Policy, folder: &Path) -> Result<(), ModelError> {
        let units = policy.units();
        self.write(folder, async |unit| {
            let failed = |reason: String| ModelError::Device { tensor: units[unit].name.clone(), reason };
            policy.values(unit).await.map_err(|error| failed(error.to_string()))
        })
        .await
    }

    /// Writes weights asked for one by one, by the unit's place, each in the layout of [`Unit::dims`].
    ///
    /// # Errors
    /// What `read` returns, or a failure of the disk; `folder` is then what it was.
    pub async fn write<E: From<ModelError>>(
        &self,
        folder: &Path,
        mut read: impl AsyncFnMut(usize) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        refuse_foreign(folder)?;
        let aside = Aside::begin(folder).map_err(ModelError::from)?;
        self.write_texts(aside.path())?;
        let units = self.config.units();
        let plan = Plan::new(&units, self.dtype, self.largest_file);
        let mut next = 0;
        for (name, count) in &plan.files {
            let specs = units[next..next + count].iter().map(|unit| TensorSpec::new(&unit.name, &unit.shape)).collect();
            let path = aside.path().join(name);
            let mut file = TensorFileWriter::create(&path, self.dtype, "pt", specs).map_err(ModelError::from)?;
            for (place, unit) in units.iter().enumerate().skip(next).take(*count) {
                file.write(&in_file_layout(read(place).await?, unit)).map_err(ModelError::from)?;
            }
            file.finish().map_err(ModelError::from)?;
            next += count;
        }
        if let Some(index) = plan.index(&units, self.dtype) {
            write_json(&aside.path().join(INDEX), &index)?;
        }
        aside.commit().map_err(ModelError::from)?;
        Ok(())
    }

    fn write_texts(&self, folder: &Path) -> Result<(), ModelError> {
        let mut texts = Texts { config: self.config_object(), companions: self.companions() };
        if self.config.architecture.head == HeadKind::Value {
            texts = classifier::described(texts);
        }
        write_json(&folder.join("config.json"), &Value::Object(texts.config))?;
        match self.source {
            Some(_) => {
                for (name, bytes) in texts.companions {
                    write_file(&folder.join(name), &bytes)?;
                }
                Ok(())
            }
            None => write_json(&folder.join("generation_config.json"), &self.tokens.json()),
        }
    }

    /// The source's `config.json` if this model still is what it describes, else one of our own.
    fn config_object(&self) -> Map<String, Value> {
        let unchanged = self.source.filter(|source| source.config() == self.config);
        let mut config = match unchanged.and_then(|source| source.raw_config().as_object()) {
            Some(raw) => raw.clone(),
            None => described(self.config, self.tokens),
        };
        if config.get("architectures").is_none() || self.config.architecture.head == HeadKind::Value {
            config.insert("architectures".into(), json!(self.config.architecture));
        }
        config.entry("model_type").or_insert_with(|| json!(self.config.architecture.family.model_type()));
        // transformers renamed the field in version 5 and reads both.
        let field = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        config.insert(field.into(), json!(self.dtype.torch_name()));
        if field == "dtype" && config.contains_key("torch_dtype") {
            config.insert("torch_dtype".into(), json!(self.dtype.torch_name()));
        }
        config
    }

    /// Files that go along, by name.
    fn companions(&self) -> Vec<(String, Cow<'a, [u8]>)> {
        let all = self.source.into_iter().flat_map(ModelFolder::companions);
        all.map(|(name, bytes)| (name.to_owned(), Cow::Borrowed(bytes))).collect()
    }
}

impl SpecialTokens {
    fn json(self) -> Value {
        let named = [("bos_token_id", self.bos), ("eos_token_id", self.eos), ("pad_token_id", self.pad)];
        Value::Object(named.into_iter().filter_map(|(name, id)| Some((name.to_string(), json!(id?)))).collect())
    }
}

/// Which tensors go into which file.
struct Plan {
    /// File names, and how many of the units in order each holds.
    files: Vec<(String, usize)>,
}

impl Plan {
    fn new(units: &[Unit], dtype: SaveDtype, largest: u64) -> Self {
        let mut counts: Vec<usize> = Vec::new();
        let mut room = 0;
        for unit in units {
            let bytes = bytes_of(unit, dtype);
            match counts.last_mut() {
                Some(count) if bytes <= room => *count += 1,
                _ => {
                    counts.push(1);
                    room = largest;
                }
            }
            room = room.saturating_sub(bytes);
        }
        let total = counts.len();
        let name = |file: usize| {
            if total == 1 { SINGLE.into() } else { format!("model-{:05}-of-{total:05}.safetensors", file + 1) }
        };
        Self { files: counts.into_iter().enumerate().map(|(file, count)| (name(file), count)).collect() }
    }

    /// The index of several files.
    fn index(&self, units: &[Unit], dtype: SaveDtype) -> Option<Value> {
        if self.files.len() == 1 {
            return None;
        }
        let total: u64 = units.iter().map(|unit| bytes_of(unit, dtype)).sum();
        let parameters: usize = units.iter().map(Unit::elements).sum();
        let files = self.files.iter().flat_map(|(name, count)| std::iter::repeat_n(name, *count));
        let map: Map<String, Value> = units.iter().zip(files).map(|(unit, file)| (unit.name.clone(), json!(file))).collect();
        Some(json!({"metadata": {"total_parameters": parameters, "total_size": total}, "weight_map": map}))
    }
}

fn bytes_of(unit: &Unit, dtype: SaveDtype) -> u64 {
    (unit.elements() * dtype.bytes()) as u64
}

/// `config.json` of a model that comes from no folder.
fn described(config: &LlamaConfig, tokens: SpecialTokens) -> Map<String, Value> {
    let value = json!({
        "architectures": config.architecture,
        "model_type": config.architecture.family.model_type(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": match config.rope_scaling {
            RopeScaling::Default => Value::Null,
            _ => json!(config.rope_scaling),
        },
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": config.attention_bias,
        "sliding_window": config.sliding_window,
        "mlp_bias": false,
        "max_position_embeddings": config.max_position_embeddings,
    });
    let (Value::Object(mut map), Value::Object(ids)) = (value, tokens.json()) else { unreachable!("both are objects") };
    map.extend(ids);
    map
}

/// Values in the layout of the file.
fn in_file_layout(values: Vec<f32>, unit: &Unit) -> Vec<f32> {
    match unit.storage {
        Storage::AsIs => values,
        Storage::Transposed => transposed(&values, unit.dims()),
    }
}

fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    Ok(write_file(path, format!("{value:#}\n").as_bytes())?)
}

/// Replacing a folder removes what is in it, so it must hold nothing but a model.
fn refuse_foreign(folder: &Path) -> Result<(), ModelError> {
    if folder.exists() && !folder.is_dir() {
        let found = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(ModelError::Occupied { path: folder.to_path_buf(), found });
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    match names.into_iter().find(|name| !is_of_a_model(name)) {
        None => Ok(()),
        Some(found) => Err(ModelError::Occupied { path: folder.to_path_buf(), found }),
    }
}

fn is_of_a_model(name: &str) -> bool {
    let weights = name.starts_with("model") && name.ends_with(".safetensors");
    weights || name == INDEX || name == "config.json" || COMPANIONS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(sizes: &[usize]) -> Vec<Unit> {
        sizes.iter().enumerate().map(|(i, &n)| Unit::new(&format!("t{i}"), &[n], Storage::AsIs)).collect()
    }

    fn plan(sizes: &[usize], largest: u64) -> Vec<(String, usize)> {
        Plan::new(&units(sizes), SaveDtype::F32, largest).files
    }

    #[test]
    fn files_are_cut_between_tensors() {
        assert_eq!(plan(&[1, 2, 3], 24), [("model.safetensors".into(), 3)]);
        let name = |i| format!("model-0000{i}-of-00003.safetensors");
        // A tensor larger than a file may be gets one of its own.
        assert_eq!(plan(&[1, 1, 9, 2], 8), [(name(1), 2), (name(2), 1), (name(3), 1)]);
    }

    #[test]
    fn the_index_names_every_tensor_and_the_total() {
        let units = units(&[1, 2]);
        let index = Plan::new(&units, SaveDtype::Bf16, 4).index(&units, SaveDtype::Bf16).unwrap();
        assert_eq!(index["metadata"], json!({"total_parameters": 3, "total_size": 6}));
        assert_eq!(index["weight_map"]["t1"], "model-00002-of-00002.safetensors");
    }

    #[test]
    fn a_described_config_is_read_back_the_same() {
        let text = r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "rope_theta": 5e5, "tie_word_embeddings": true, "rope_scaling":
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 64}}"#;
        let config: LlamaConfig = serde_json::from_str(text).unwrap();
        let tokens = SpecialTokens { eos: Some(3), ..SpecialTokens::default() };
        let described = Value::Object(described(&config, tokens));
        assert_eq!(described["eos_token_id"], 3);
        assert_eq!(serde_json::from_value::<LlamaConfig>(described).unwrap(), config);
    }
}
