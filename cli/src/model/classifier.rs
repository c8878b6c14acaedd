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

/// The texts of a classifier with one label. transformers reads a text's last token that does not pad, so no token that ends texts may pad: the one
/// that begins them does instead, which never stands last. Where there is none, nothing pads, and transformers refuses batches.
pub(super) fn described(mut texts: Texts<'_>) -> Texts<'_> {
    texts.config.insert("id2label".into(), json!({"0": "LABEL_0"}));
    texts.config.insert("label2id".into(), json!({"LABEL_0": 0}));
    if pads(&texts) {
        return texts;
    }
    let begins = texts.config.get("bos_token_id").filter(|bos| bos.is_u64() && !ends(&texts.config).contains(bos)).cloned();
    texts.config.insert("pad_token_id".into(), begins.clone().unwrap_or(Value::Null));
    for (name, bytes) in &mut texts.companions {
        if begins.is_some()
            && NAMES.contains(&name.as_str())
            && let Some(padded) = padded_by_bos(bytes)
        {
            *bytes = Cow::Owned(padded);
        }
    }
    texts
}

/// Whether there is a token that pads and ends nothing.
fn pads(texts: &Texts<'_>) -> bool {
    let names: Vec<Map<String, Value>> = texts.companions.iter().filter_map(|(name, bytes)| named(name, bytes)).collect();
    let ends_for_tokenizers = names.iter().any(|names| {
        let [pad, end] = ["pad_token", "eos_token"].map(|key| names.get(key).map(content));
        pad.is_some() && pad == end
    });
    match texts.config.get("pad_token_id").filter(|id| !id.is_null()) {
        Some(pad) => !ends_for_tokenizers && !ends(&texts.config).contains(&pad),
        None => false,
    }
}

/// The tokens that end texts.
fn ends(config: &Map<String, Value>) -> Vec<&Value> {
    match config.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.iter().collect(),
        one => one.into_iter().collect(),
    }
}

fn named(name: &str, bytes: &[u8]) -> Option<Map<String, Value>> {
    if NAMES.contains(&name) { serde_json::from_slice(bytes).ok() } else { None }
}

/// A token is written as its text, or as a table with it.
fn content(token: &Value) -> &Value {
    token.get("content").unwrap_or(token)
}

/// A tokenizer's file whose texts are padded by the token that begins them, if it names one.
fn padded_by_bos(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut names: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    let begins = names.get("bos_token").filter(|token| !token.is_null())?.clone();
    names.insert("pad_token".into(), begins);
    serde_json::to_vec_pretty(&names).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(config: Value, names: Value) -> (Value, Value) {
        let (Value::Object(config), text) = (config, names.to_string()) else { panic!("an object") };
        let companions = vec![("tokenizer_config.json".to_owned(), Cow::Owned(text.into_bytes()))];
        let texts = super::described(Texts { config, companions });
        let names = serde_json::from_slice::<Value>(&texts.companions[0].1).unwrap();
        (texts.config["pad_token_id"].clone(), names["pad_token"].clone())
    }

    #[test]
    fn no_token_pads_that_ends_texts() {
        let names = |pad: Value| json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": pad});
        let by_bos = (json!(1), json!({"content": "<s>"}));
        let of = |bos: Value, eos: Value, pad: Value| json!({"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad});
        assert_eq!(described(of(json!(1), json!(2), json!(2)), names(json!("</s>"))), by_bos);
        assert_eq!(described(of(json!(1), json!([5, 2]), json!(2)), names(json!("<pad>"))), by_bos, "one of several ends");
        assert_eq!(described(of(json!(1), json!(5), json!(3)), names(json!({"content": "</s>"}))), by_bos, "the tokenizer's end");
        assert_eq!(described(json!({"bos_token_id": 1, "eos_token_id": 2}), names(Value::Null)), by_bos, "nothing pads");
        let kept = described(of(json!(1), json!(2), json!(3)), names(json!("<pad>")));
        assert_eq!(kept, (json!(3), json!("<pad>")));
        let none = described(of(json!(2), json!(2), json!(2)), names(json!("</s>")));
        assert_eq!(none, (Value::Null, json!("</s>")), "a begin that is the end");
    }
}
