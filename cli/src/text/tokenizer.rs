//! A model's tokenizer, in Hugging Face's layout.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::error::{TextError, excerpt};

/// Whether decoding keeps special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// They appear as their text, such as `<|im_end|>`.
    Shown,
    /// They are left out.
    Hidden,
}

/// A tokenizer with its special tokens. It never adds tokens of its own accord: what surrounds a text is decided by the caller.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    directory: String,
    special: BTreeMap<String, String>,
    special_ids: HashSet<u32>,
    begin: Begin,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
}

/// Whether plain text gets a beginning-of-sequence token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    Bare,
    Bos,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokenizer").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and the special tokens' names from `tokenizer_config.json`, else `special_tokens_map.json`.
    ///
    /// Truncation and padding stored in `tokenizer.json` are switched off: they would cut examples silently.
    ///
    /// # Errors
    /// If a file is missing or malformed, or `bos_token` or `eos_token` is not in the vocabulary.
    pub fn load(directory: &Path) -> Result<Self, TextError> {
        let file = directory.join("tokenizer.json");
        let malformed =
            |error: tokenizers::Error| TextError::Tokenizer { file: file.display().to_string(), reason: error.to_string() };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes(&file)?).map_err(malformed)?;
        inner.with_truncation(None).map_err(malformed)?;
        inner.with_padding(None);
        let names = Names::load(directory)?;
        let (bos, eos, pad) =
            (names.id("bos_token", &inner)?, names.id("eos_token", &inner)?, names.lenient_id("pad_token", &inner));
        let begin = match names.adds_bos {
            Some(flag) if flag && bos.is_some() => Begin::Bos,
            Some(_) => Begin::Bare,
            None => begin(&inner, bos),
        };
        let marked = inner.get_added_tokens_decoder().into_iter().filter(|(_, token)| token.special).map(|(id, _)| id);
        let special_ids = marked.chain([bos, eos, pad].into_iter().flatten()).collect();
        let directory = directory.display().to_string();
        Ok(Self { inner, directory, special: names.tokens, special_ids, begin, bos, eos, pad })
    }

    /// The tokens of a text, nothing added. Special tokens written out in the text become special tokens, as in `transformers`.
    ///
    /// # Errors
    /// If the tokenizer has no token for part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        encode(&self.inner, text, false)
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[u32], special: Special) -> Result<String, TextError> {
        let decoded = self.inner.decode(tokens, special == Special::Hidden);
        decoded.map_err(|error| TextError::Decode { reason: error.to_string() })
    }

    /// The text of one token as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether a token is special: marked so, or the beginning, the end or padding.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// What stands before plain text: the beginning-of-sequence token if this tokenizer adds it by itself, else nothing.
    pub fn beginning(&self) -> Option<u32> {
        match self.begin {
            Begin::Bos => self.bos,
            Begin::Bare => None,
        }
    }

    /// The beginning-of-sequence token, used or not.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The end-of-sequence token, for those who cannot do without.
    ///
    /// # Errors
    /// If the tokenizer names none.
    pub fn end(&self) -> Result<u32, TextError> {
        self.eos.ok_or_else(|| TextError::NoEnd { directory: self.directory.clone() })
    }

    /// The padding token; it may be the same as [`Tokenizer::eos`], so masks go by position and never by token.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Special tokens by name (`bos_token`, `unk_token`, …), for templates.
    pub fn special_tokens(&self) -> &BTreeMap<String, String> {
        &self.special
    }

    /// One more than the largest token id: a model's embedding needs at least as many rows.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |largest| largest as usize + 1)
    }

    /// The directory it was read from, as messages name it.
    pub fn directory(&self) -> &str {
        &self.directory
    }
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
    let encoded = tokenizer.encode_fast(text, add_special_tokens);
    let encoded =
        encoded.map_err(|error| TextError::Encode { text: excerpt(culprit(tokenizer, text)), reason: error.to_string() })?;
    Ok(encoded.get_ids().to_vec())
}

/// The first word that the tokenizer fails on by itself; the text, if it is none of them.
fn culprit<'a>(tokenizer: &tokenizers::Tokenizer, text: &'a str) -> &'a str {
    text.split_whitespace().find(|word| tokenizer.encode_fast(*word, false).is_err()).unwrap_or(text)
}

/// Asks the tokenizer itself. A letter is encoded rather than nothing, so that an end-of-sequence token that is also the beginning
/// (GPT-2's) is not taken for one. A tokenizer of whole words may know no letter, and adds nothing.
fn begin(tokenizer: &tokenizers::Tokenizer, bos: Option<u32>) -> Begin {
    let (Ok(bare), Ok(full)) = (encode(tokenizer, "a", false), encode(tokenizer, "a", true)) else { return Begin::Bare };
    let added = full.first().is_some_and(|first| Some(*first) == bos && bare.first() != Some(first));
    if added { Begin::Bos } else { Begin::Bare }
}

/// The special tokens' texts by name, and what the configuration says about adding them.
struct Names {
    file: String,
    tokens: BTreeMap<String, String>,
    adds_bos: Option<bool>,
}

impl Names {
    fn load(directory: &Path) -> Result<Self, TextError> {
        let (config, map) = (directory.join("tokenizer_config.json"), directory.join("special_tokens_map.json"));
        let mut names = Self { file: config.display().to_string(), tokens: BTreeMap::new(), adds_bos: None };
        if map.exists() {
            names.take(&settings(&map)?);
        }
        if config.exists() {
            let config = settings(&config)?;
            names.take(&config);
            names.adds_bos = config.get("add_bos_token").and_then(Value::as_bool);
        }
        Ok(names)
    }

    /// A token is a text or an object with `content`; null takes an earlier file's word back.
    fn take(&mut self, settings: &Map<String, Value>) {
        for (name, value) in settings.iter().filter(|(name, _)| name.ends_with("_token")) {
            match value.as_str().or_else(|| value.get("content").and_then(Value::as_str)) {
                Some(token) => self.tokens.insert(name.clone(), token.to_owned()),
                None => self.tokens.remove(name),
            };
        }
    }

    fn id(&self, name: &str, tokenizer: &tokenizers::Tokenizer) -> Result<Option<u32>, TextError> {
        let Some(token) = self.tokens.get(name) else { return Ok(None) };
        let id = tokenizer.token_to_id(token);
        id.map(Some).ok_or_else(|| TextError::UnknownToken {
            file: self.file.clone(),
            field: name.to_owned(),
            token: token.clone(),
        })
    }

    /// A padding token is only a name here, so one that the vocabulary lacks does no harm.
    fn lenient_id(&self, name: &str, tokenizer: &tokenizers::Tokenizer) -> Option<u32> {
        self.tokens.get(name).and_then(|token| tokenizer.token_to_id(token))
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>, TextError> {
    fs::read(file).map_err(|error| TextError::Unreadable { file: file.display().to_string(), reason: error.to_string() })
}

/// A text file of the model directory.
pub(super) fn read(file: &Path) -> Result<String, TextError> {
    String::from_utf8(bytes(file)?).map_err(|error| TextError::Unreadable {
        file: file.display().to_string(),
        reason: format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()),
    })
}

/// A JSON object of the model directory.
pub(super) fn settings(file: &Path) -> Result<Map<String, Value>, TextError> {
    serde_json::from_str(&read(file)?).map_err(|error| TextError::Setting {
        file: file.display().to_string(),
        field: format!("line {}", error.line()),
        reason: format!("is no JSON object ({error})"),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    /// A tokenizer of letters: every character its own token, ids 2 to 6; `<s>` and `</s>` are 0 and 1.
    fn letters() -> Value {
        json!({
            "version": "1.0", "normalizer": null, "pre_tokenizer": null, "decoder": {"type": "Fuse"}, "post_processor": null,
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"},
            "added_tokens": [
                {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
                {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
            ],
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                      "fuse_unk": false, "byte_fallback": false, "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "c": 4, "ab": 5, " ": 6},
                      "merges": [["a", "b"]]}
        })
    }

    fn with_bos(mut tokenizer: Value) -> Value {
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
        });
        tokenizer
    }

    fn directory(tokenizer: &Value, config: &Value) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        fs::write(directory.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        directory
    }

    fn load(tokenizer: &Value, config: &Value) -> Result<Tokenizer, TextError> {
        Tokenizer::load(directory(tokenizer, config).path())
    }

    fn config() -> Value {
        json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "special": true}, "pad_token": "</s>"})
    }

    #[test]
    fn stored_truncation_and_padding_are_switched_off() {
        let tokenizer = load(&letters(), &config()).unwrap();
        assert_eq!(tokenizer.encode("abcab").unwrap(), [5, 4, 5]);
        assert_eq!(tokenizer.encode("").unwrap(), [0_u32; 0]);
    }

    #[test]
    fn special_tokens_are_texts_or_objects() {
        let tokenizer = load(&letters(), &config()).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.pad()), (Some(0), Some(1), Some(1)));
        assert!(tokenizer.is_special(1) && !tokenizer.is_special(2));
        assert_eq!(tokenizer.vocabulary(), 7);
        assert_eq!(tokenizer.decode(&[0, 5, 1], Special::Shown).unwrap(), "<s>ab</s>");
        assert_eq!(tokenizer.decode(&[0, 5, 1], Special::Hidden).unwrap(), "ab");
    }

    #[test]
    fn the_tokenizer_decides_on_a_beginning_unless_its_configuration_does() {
        assert_eq!(load(&letters(), &config()).unwrap().beginning(), None);
        assert_eq!(load(&with_bos(letters()), &config()).unwrap().beginning(), Some(0));
        let mut without = config();
        without["add_bos_token"] = false.into();
        assert_eq!(load(&with_bos(letters()), &without).unwrap().beginning(), None);
        let mut with = config();
        with["add_bos_token"] = true.into();
        assert_eq!(load(&letters(), &with).unwrap().beginning(), Some(0));
        assert_eq!(load(&with_bos(letters()), &with).unwrap().encode("c").unwrap(), [4]);
    }

    #[test]
    fn a_word_that_has_no_token_is_named() {
        let mut words = letters();
        words["pre_tokenizer"] = json!({"type": "Whitespace"});
        words["model"] =
            json!({"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "c": 4, "ab": 5}});
        let tokenizer = load(&words, &config()).unwrap();
        assert_eq!(tokenizer.encode("a ab").unwrap(), [2, 5]);
        let text = tokenizer.encode("a ab zebra c").unwrap_err().to_string();
        assert!(text.starts_with("the tokenizer fails on \"zebra\": "), "{text}");
    }

    #[test]
    fn a_missing_end_is_an_error_only_when_it_is_needed() {
        let tokenizer = load(&letters(), &json!({})).unwrap();
        assert!(tokenizer.end().unwrap_err().to_string().contains("names no eos_token"));
    }

    #[test]
    fn special_tokens_map_fills_what_the_configuration_leaves_open() {
        let directory = directory(&letters(), &json!({"bos_token": null}));
        fs::write(directory.path().join("special_tokens_map.json"), r#"{"bos_token": "<s>", "eos_token": "</s>"}"#).unwrap();
        let tokenizer = Tokenizer::load(directory.path()).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (None, Some(1)));
    }

    #[test]
    fn bad_directories_are_named() {
        let error = Tokenizer::load(&PathBuf::from("no/such/model")).unwrap_err().to_string();
        assert!(error.starts_with("no/such/model/tokenizer.json: cannot be read"), "{error}");
        let error = load(&json!({"model": 3}), &config()).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: is no tokenizer"), "{error}");
        let error = load(&letters(), &json!({"eos_token": "<end>"})).unwrap_err().to_string();
        assert!(error.contains("eos_token is \"<end>\", which tokenizer.json does not contain"), "{error}");
        let error = load(&letters(), &json!([])).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json: line 1: is no JSON object"), "{error}");
    }
}
