//! What transformers wants to know of a sequence classifier, such as a reward model.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

/// The texts of a model folder.
#[derive(Debug, Clone)]
pub(super) struct Texts<'a> {
    /// `config.json`.
    pub(super) config: Map<String, Value>,
    /// The tokenizer's files and others, by name.
    pub(super) companions: Vec<(String, Cow<'a, [u8]>)>,
}

/// Files in which tokenizers say which token pads.
const NAMES: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// The texts of a classifier with one label. transformers reads a text's last token that does not pad, so no token that ends texts may pad.
/// Where neither config.json nor the tokenizer names another, the one that begins texts does, which never stands last. Where there is none, nothing
/// pads, and transformers refuses batches.
pub(super) fn described(mut texts: Texts<'_>) -> Texts<'_> {
    texts.config.insert("id2label".into(), json!({"0": "LABEL_0"}));
    texts.config.insert("label2id".into(), json!({"LABEL_0": 0}));
    let vocabulary = Vocabulary::of(&texts);
    if vocabulary.pads(&texts.config) {
        return texts;
    }
    if let Some(id) = vocabulary.named_pad(&texts.config) {
        texts.config.insert("pad_token_id".into(), id);
        return texts;
    }
    let begins = vocabulary.begins(&texts.config);
    texts.config.insert("pad_token_id".into(), begins.clone().map_or(Value::Null, |(id, _)| id));
    if let Some((_, Some(token))) = begins {
        for (_, bytes) in texts.companions.iter_mut().filter(|(name, _)| NAMES.contains(&name.as_str())) {
            if let Some(padded) = padded(bytes, &token) {
                *bytes = Cow::Owned(padded);
            }
        }
    }
    texts
}

/// What the tokenizer's files say of tokens.
struct Vocabulary {
    /// Of either file, the token and its text under a name such as `pad_token`.
    names: Vec<Map<String, Value>>,
    /// Texts and ids of tokens outside the tokenizer's own vocabulary, as those that begin, end and pad are.
    added: Vec<(Value, Value)>,
}

impl Vocabulary {
    fn of(texts: &Texts<'_>) -> Self {
        let parsed = |wanted: &str| {
            let (_, bytes) = texts.companions.iter().find(|(name, _)| name == wanted)?;
            serde_json::from_slice::<Map<String, Value>>(bytes).ok()
        };
        let tokenizer = parsed("tokenizer.json").unwrap_or_default();
        let added = tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        Self {
            names: NAMES.into_iter().filter_map(parsed).collect(),
            added: added.map(|token| (token["content"].clone(), token["id"].clone())).collect(),
        }
    }

    /// The texts of a token, where a file names it.
    fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.names.iter().filter_map(move |names| names.get(name)).map(content).filter(|text| !text.is_null())
    }

    /// Whether an id may be that of a token's text.
    fn fits(&self, text: &Value, id: &Value) -> bool {
        self.added.iter().find(|(added, _)| added == text).is_none_or(|(_, of_text)| of_text == id)
    }

    /// Whether there is a token that pads, the same for model and tokenizer, and that ends nothing.
    fn pads(&self, config: &Map<String, Value>) -> bool {
        let Some(id) = config.get("pad_token_id").filter(|id| !id.is_null()) else { return false };
        let ends = ends(config).contains(&id) || self.texts("pad_token").any(|pad| self.texts("eos_token").any(|end| end == pad));
        !ends && self.texts("pad_token").all(|pad| self.fits(pad, id))
    }

    /// The token that pads by what the tokenizer says, where it ends nothing.
    fn named_pad(&self, config: &Map<String, Value>) -> Option<Value> {
        let text = self.texts("pad_token").next()?;
        let (_, id) = self.added.iter().find(|(added, _)| added == text)?;
        let alike = self.texts("pad_token").all(|other| other == text) && self.texts("eos_token").all(|end| end != text);
        (alike && !ends(config).contains(&id)).then(|| id.clone())
    }

    /// The token that begins texts and ends none, and its text, which only models without a tokenizer lack.
    fn begins(&self, config: &Map<String, Value>) -> Option<(Value, Option<Value>)> {
        let id = config.get("bos_token_id").filter(|id| id.is_u64() && !ends(config).contains(id))?;
        if self.names.is_empty() {
            return Some((id.clone(), None));
        }
        let text = self.texts("bos_token").next()?;
        let ends = self.texts("eos_token").any(|end| end == text);
        (!ends && self.fits(text, id)).then(|| (id.clone(), Some(text.clone())))
    }
}

/// The tokens that end texts.
fn ends(config: &Map<String, Value>) -> Vec<&Value> {
    match config.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.iter().collect(),
        one => one.into_iter().collect(),
    }
}

/// A token is written as its text, or as a table with it.
fn content(token: &Value) -> &Value {
    token.get("content").unwrap_or(token)
}

/// A tokenizer's file with this token to pad.
fn padded(bytes: &[u8], token: &Value) -> Option<Vec<u8>> {
    let mut names: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    names.insert("pad_token".into(), token.clone());
    serde_json::to_vec_pretty(&names).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(config: Value, files: &[(&str, Value)]) -> (Value, Vec<Value>) {
        let Value::Object(config) = config else { panic!("an object") };
        let file = |(name, value): &(&str, Value)| ((*name).to_owned(), Cow::Owned(value.to_string().into_bytes()));
        let texts = super::described(Texts { config, companions: files.iter().map(file).collect() });
        let pad = |(_, bytes): &(String, Cow<'_, [u8]>)| serde_json::from_slice::<Value>(bytes).unwrap()["pad_token"].clone();
        (texts.config["pad_token_id"].clone(), texts.companions.iter().map(pad).collect())
    }

    fn of(bos: Value, eos: Value, pad: Value) -> Value {
        json!({"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad})
    }

    fn names(bos: Value, pad: Value) -> (&'static str, Value) {
        ("tokenizer_config.json", json!({"bos_token": bos, "eos_token": "</s>", "pad_token": pad}))
    }

    #[test]
    fn no_token_pads_that_ends_texts() {
        let by_bos = (json!(1), vec![json!("<s>")]);
        let usual = |pad: Value| names(json!({"content": "<s>"}), pad);
        assert_eq!(described(of(json!(1), json!(2), json!(2)), &[usual(json!("</s>"))]), by_bos);
        assert_eq!(described(of(json!(1), json!([5, 2]), json!(2)), &[usual(json!("<pad>"))]), by_bos, "one of several ends");
        assert_eq!(described(of(json!(1), json!(5), json!(3)), &[usual(json!({"content": "</s>"}))]), by_bos, "its own end");
        assert_eq!(described(json!({"bos_token_id": 1, "eos_token_id": 2}), &[usual(Value::Null)]), by_bos, "nothing pads");
        let kept = described(of(json!(1), json!(2), json!(3)), &[usual(json!("<pad>"))]);
        assert_eq!(kept, (json!(3), vec![json!("<pad>")]));
        assert_eq!(described(of(json!(1), json!(2), json!(2)), &[]), (json!(1), vec![]), "no tokenizer");
    }

    /// As Qwen's chat models have it: config.json names none, the tokenizer does, and nothing begins texts.
    #[test]
    fn the_tokenizers_own_token_pads_where_the_model_names_none() {
        let config = || json!({"bos_token_id": 0, "eos_token_id": 2});
        let names =
            |end: &str| ("tokenizer_config.json", json!({"bos_token": null, "eos_token": end, "pad_token": "<|endoftext|>"}));
        let tokens = (
            "tokenizer.json",
            json!({"added_tokens": [{"id": 0, "content": "<|endoftext|>"}, {"id": 2, "content": "<|im_end|>"}]}),
        );
        let chat = described(config(), &[names("<|im_end|>"), tokens.clone()]);
        assert_eq!((chat.0, &chat.1[0]), (json!(0), &json!("<|endoftext|>")));
        let base = described(json!({"bos_token_id": 0, "eos_token_id": 0}), &[names("<|endoftext|>"), tokens]);
        assert_eq!(base.0, Value::Null, "it ends texts");
    }

    #[test]
    fn model_and_tokenizer_pad_by_the_same_token_or_none() {
        let end = json!("</s>");
        let none = described(of(json!(2), json!(2), json!(2)), &[names(end.clone(), end.clone())]);
        assert_eq!(none, (Value::Null, vec![end.clone()]), "a begin that is the end");
        let unnamed = described(of(json!(1), json!(2), json!(2)), &[names(Value::Null, end.clone())]);
        assert_eq!(unnamed, (Value::Null, vec![end.clone()]), "a begin that the tokenizer does not name");
        let map = ("special_tokens_map.json", json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}));
        let both = described(of(json!(1), json!(2), json!(2)), &[names(Value::Null, end.clone()), map]);
        assert_eq!(both, (json!(1), vec![json!("<s>"), json!("<s>")]), "a begin that one of its files names");
        let tokens = json!({"added_tokens": [{"id": 7, "content": "<pad>"}, {"id": 1, "content": "<s>"}]});
        let other =
            described(of(json!(1), json!(2), json!(3)), &[names(json!("<s>"), json!("<pad>")), ("tokenizer.json", tokens)]);
        assert_eq!((other.0, &other.1[0]), (json!(7), &json!("<pad>")), "another token for the model than for the tokenizer");
    }
}
