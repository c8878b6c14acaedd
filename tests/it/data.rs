//! Every format on small files, and the ways in which text becomes the wrong tokens.

use std::fs;
use std::path::{Path, PathBuf};

use hbat::tokens::Group;
use hbat_cli::data::{Codec, CodecOptions, InspectOptions, Kind, Loaded, Paint, ReadOptions, TemplateChoice, TooLong};
use hbat_cli::data::{Format, inspect, load_answerable, load_demonstrations, load_preferences};
use hbat_cli::text::Special;
use serde_json::{Value, json};
use tempfile::TempDir;

/// ChatML with a beginning-of-sequence token written out, as LLaMA's templates have it.
pub(crate) const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}\n{% endfor %}\
                                   {% if add_generation_prompt %}<assistant>{% endif %}";

/// A model directory with a tokenizer of bytes (byte b is token b + 2), the merges `ab` and `\n\n`, and `</s>` for padding too.
pub(crate) struct Model {
    folder: TempDir,
}

/// Whether the tokenizer puts `<s>` before a text by itself.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Begin {
    Bare,
    Bos,
}

impl Model {
    pub(crate) fn new(begin: Begin, template: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), tokenizer(begin).to_string()).unwrap();
        let config = json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"});
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        if let Some(template) = template {
            fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn codec(&self, template: TemplateChoice, max_length: usize, too_long: TooLong) -> Codec {
        Codec::load(self.folder.path(), CodecOptions { template, max_length, too_long }).unwrap()
    }

    /// The model's own template and no limit.
    pub(crate) fn auto(&self) -> Codec {
        self.codec(TemplateChoice::Auto, 1 << 20, TooLong::Error)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file beside the model's.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

fn tokenizer(begin: Begin) -> Value {
    let mut vocabulary = serde_json::Map::from_iter([("<s>".to_string(), json!(0)), ("</s>".to_string(), json!(1))]);
    vocabulary.extend((0..=255).map(|byte| (spelling(byte).to_string(), json!(u32::from(byte) + 2))));
    vocabulary.extend([("ab".to_string(), json!(258)), ("ĊĊ".to_string(), json!(259))]);
    let special = |id, content| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
               "special": true})
    };
    let bos = json!({"type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                     "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                     "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": if begin == Begin::Bos { bos } else { Value::Null },
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": [["a", "b"], ["Ċ", "Ċ"]]}
    })
}

/// The character that stands for a byte in byte-level vocabularies: itself if printable, else one from U+0100 on.
fn spelling(byte: u8) -> char {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(&byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !printable(byte)).count() as u32;
    char::from_u32(256 + before).expect("a letter")
}

/// Loads one file of a kind.
pub(crate) fn load(kind: Kind, path: PathBuf, codec: &Codec) -> Result<Loaded, String> {
    let load = if kind == Kind::Demonstrations { load_demonstrations } else { load_preferences };
    load(&[path], &ReadOptions::default(), codec).map_err(|error| error.to_string())
}

/// Prompt and responses of a group as text, special tokens written out.
fn texts(group: &Group, codec: &Codec) -> Vec<String> {
    let decode = |tokens: &[u32]| codec.tokenizer().decode(tokens, Special::Shown).unwrap();
    let prompts: Vec<String> = group.sequences.iter().map(|sequence| decode(sequence.prompt())).collect();
    assert!(prompts.iter().all(|prompt| *prompt == prompts[0]), "one prompt: {prompts:?}");
    let responses = group.sequences.iter().map(|sequence| decode(sequence.response()));
    prompts.iter().take(1).cloned().chain(responses).collect()
}

/// The texts of the only example of a JSONL file.
#[track_caller]
fn check(kind: Kind, model: &Model, example: &Value, expected: &[&str]) {
    let codec = model.auto();
    let loaded = load(kind, model.file("one.jsonl", example.to_string()), &codec).unwrap();
    assert_eq!(loaded.groups.len(), 1);
    assert_eq!(texts(&loaded.groups[0], &codec), expected, "{example}");
}

fn user(content: &str) -> Value {
    json!([{"role": "user", "content": content}])
}

fn assistant(content: &str) -> Value {
    json!([{"role": "assistant", "content": content}])
}

fn conversation(question: &str, answer: &str) -> Value {
    json!([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
}

#[test]
fn demonstrations_of_every_format() {
    let chat = Model::new(Begin::Bos, Some(TEMPLATE));
    let check = |example: Value, expected: [&str; 2]| check(Kind::Demonstrations, &chat, &example, &expected);
    let rendered = ["<s><user>q</s>\n<assistant>", "r</s>\n"];
    check(json!({"prompt": user("q"), "completion": assistant("r")}), rendered);
    check(json!({"messages": conversation("q", "r")}), rendered);
    check(json!({"instruction": "q", "input": "", "output": "r"}), rendered);
    check(json!({"instruction": "q", "input": "i", "output": "r"}), ["<s><user>q\n\ni</s>\n<assistant>", "r</s>\n"]);
    check(json!({"prompt": "q ", "completion": "r"}), ["<s>q ", "r</s>"]);
    check(json!({"text": "once"}), ["<s>", "once</s>"]);
    let post = json!({"subreddit": "s", "title": "t", "post": "p", "summary": "r"});
    check(post, ["<s>SUBREDDIT: r/s\n\nTITLE: t\n\nPOST: p\n\nTL;DR:", " r</s>"]);
}

#[test]
fn preferences_of_every_format() {
    let chat = Model::new(Begin::Bos, Some(TEMPLATE));
    let check = |example: Value, expected: [&str; 3]| check(Kind::Preferences, &chat, &example, &expected);
    let rendered = ["<s><user>q</s>\n<assistant>", "w</s>\n", "l</s>\n"];
    check(json!({"prompt": user("q"), "chosen": assistant("w"), "rejected": assistant("l")}), rendered);
    check(json!({"chosen": conversation("q", "w"), "rejected": conversation("q", "l")}), rendered);
    check(json!({"prompt": "q", "chosen": conversation("q", "w"), "rejected": conversation("q", "l")}), rendered);
    check(json!({"instruction": "q", "input": "", "output_1": "l", "output_2": "w", "preference": 2}), rendered);
    check(json!({"prompt": "q ", "chosen": "w", "rejected": "l"}), ["<s>q ", "w</s>", "l</s>"]);
    let transcript = |answer: &str| format!("\n\nHuman: q\n\nAssistant: {answer}");
    check(json!({"chosen": transcript("w"), "rejected": transcript("l")}), ["<s>\n\nHuman: q\n\nAssistant:", " w</s>", " l</s>"]);
    let comparison = json!({"info": {"subreddit": "s", "title": "t", "post": "p"}, "summaries": [{"text": " l"}, {"text": " w"}], "choice": 1});
    check(comparison, ["<s>SUBREDDIT: r/s\n\nTITLE: t\n\nPOST: p\n\nTL;DR:", " w</s>", " l</s>"]);
}

#[test]
fn without_a_template_instructions_get_alpacas_text() {
    let plain = Model::new(Begin::Bare, None);
    let prompt = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\
                  ### Instruction:\nq\n\n### Response:";
    check(Kind::Demonstrations, &plain, &json!({"instruction": "q", "output": "r"}), &[prompt, "r</s>"]);
    let example = json!({"instruction": "q", "output_1": "w", "output_2": "l", "preference": 1});
    check(Kind::Preferences, &plain, &example, &[prompt, "w</s>", "l</s>"]);
}

#[test]
fn the_plain_template_joins_one_prompt_and_one_answer() {
    let model = Model::new(Begin::Bos, Some(TEMPLATE));
    let codec = model.codec(TemplateChoice::Plain, 99, TooLong::Error);
    let file = model.file("x.jsonl", json!({"prompt": user("q"), "completion": assistant("r")}).to_string());
    let loaded = load(Kind::Demonstrations, file, &codec).unwrap();
    assert_eq!(texts(&loaded.groups[0], &codec), ["<s>q", "r</s>"]);
    let long = json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]});
    let error = load(Kind::Demonstrations, model.file("y.jsonl", long.to_string()), &codec).unwrap_err();
    assert!(error.contains("this example has 2 prompt messages and 1 response messages"), "{error}");
}

#[test]
fn tokens_never_merge_across_the_boundary() {
    let model = Model::new(Begin::Bare, None);
    let [a, b, ab, eos] = [99, 100, 258, 1];
    let codec = model.auto();
    assert_eq!(codec.tokenizer().encode("ab").unwrap(), [ab]);
    let file = model.file("x.jsonl", r#"{"prompt": "aba", "completion": "bab"}"#);
    let sequence = load(Kind::Demonstrations, file, &codec).unwrap().groups[0].sequences[0].clone();
    assert_eq!((sequence.prompt(), sequence.response()), ([ab, a].as_slice(), [b, ab, eos].as_slice()));
}

/// `<s>` once, at the very beginning; `</s>` once, at the very end, though it is the padding token too.
#[test]
fn plain_text_begins_and_ends_once() {
    let (bos, eos, q, r) = (0, 1, u32::from(b'q') + 2, u32::from(b'r') + 2);
    let line = r#"{"prompt": "q", "chosen": "r", "rejected": "rr"}"#;
    for (begin, prompt) in [(Begin::Bos, vec![bos, q]), (Begin::Bare, vec![q])] {
        let model = Model::new(begin, None);
        let loaded = load(Kind::Preferences, model.file("x.jsonl", line), &model.auto()).unwrap();
        let [chosen, rejected] = loaded.groups[0].sequences.as_slice() else { panic!("a pair") };
        assert_eq!((chosen.prompt(), rejected.prompt()), (prompt.as_slice(), prompt.as_slice()));
        assert_eq!((chosen.response(), rejected.response()), ([r, eos].as_slice(), [r, r, eos].as_slice()));
    }
}

#[test]
fn a_templates_text_gets_no_second_beginning() {
    let model = Model::new(Begin::Bos, Some(TEMPLATE));
    let file = model.file("x.jsonl", json!({"messages": conversation("q", "r")}).to_string());
    let sequence = load(Kind::Demonstrations, file, &model.auto()).unwrap().groups[0].sequences[0].clone();
    assert_eq!(sequence.tokens().iter().filter(|token| **token == 0).count(), 1);
    assert_eq!(sequence.tokens()[0], 0);
    assert_eq!(sequence.response(), [u32::from(b'r') + 2, 1, u32::from(b'\n') + 2]);
}

#[test]
fn text_without_a_beginning_lends_its_first_token() {
    let model = Model::new(Begin::Bare, None);
    check(Kind::Demonstrations, &model, &json!({"text": "once"}), &["o", "nce</s>"]);
}

#[test]
fn an_empty_prompt_needs_a_beginning() {
    let line = json!({"prompt": "", "completion": "r"});
    check(Kind::Demonstrations, &Model::new(Begin::Bos, None), &line, &["<s>", "r</s>"]);
    let bare = Model::new(Begin::Bare, None);
    let error = load(Kind::Demonstrations, bare.file("x.jsonl", line.to_string()), &bare.auto()).unwrap_err();
    assert!(
        error.contains("x.jsonl, line 1: the prompt has no tokens and the tokenizer adds no beginning-of-sequence token"),
        "{error}"
    );
}

#[test]
fn a_response_may_be_several_messages() {
    let model = Model::new(Begin::Bare, Some(TEMPLATE));
    let turns = json!([{"role": "assistant", "content": "call", "tool_calls": [{"name": "f"}]}, {"role": "tool", "content": "7"},
                       {"role": "assistant", "content": "seven"}]);
    let expected = ["<s><user>q</s>\n<assistant>", "call</s>\n<tool>7</s>\n<assistant>seven</s>\n"];
    check(Kind::Demonstrations, &model, &json!({"prompt": user("q"), "completion": turns}), &expected);
}

#[test]
fn files_from_other_systems_are_the_same_data() {
    let model = Model::new(Begin::Bare, None);
    let codec = model.auto();
    let (one, two) = (r#"{"prompt": "q\r\n", "completion": "r"}"#, "{\"prompt\": \"\u{2028}é\u{85}\", \"completion\": \"😀\"}");
    let reference = load(Kind::Demonstrations, model.file("a.jsonl", format!("{one}\n{two}\n")), &codec).unwrap();
    assert_eq!(texts(&reference.groups[1], &codec), ["\u{2028}é\u{85}", "😀</s>"]);
    let others = [
        ("b.jsonl", format!("{one}\r\n{two}\r\n")),
        ("c.jsonl", format!("\u{feff}{one}\n\n{two}\n\n \n\n")),
        ("d.jsonl", format!("{one}\n{two}")),
        ("e.json", format!("[{one},\r\n {two}]\r\n")),
        ("f.json", format!("{one}\n{two}\n")),
        ("g", format!("\u{feff} [{one}, {two}]")),
        ("h.ndjson", format!("\n\n{one}\n{two}\n")),
    ];
    for (name, content) in others {
        assert_eq!(load(Kind::Demonstrations, model.file(name, content), &codec).as_ref(), Ok(&reference), "{name}");
    }
}

#[test]
fn same_responses_are_allowed_but_counted() {
    let model = Model::new(Begin::Bare, None);
    let lines = "{\"prompt\": \"q\", \"chosen\": \"r\", \"rejected\": \"r\"}\n{\"prompt\": \"q\", \"chosen\": \"r\", \"rejected\": \"s\"}";
    let report = load(Kind::Preferences, model.file("x.jsonl", lines), &model.auto()).unwrap().report;
    assert_eq!((report.kept, report.identical), (2, 1));
    assert_eq!(report.warnings(), ["1 of 2 pairs have the same chosen and rejected response"]);
}

fn truncated(model: &Model, max_length: usize, line: &Value) -> (Vec<String>, usize) {
    let codec = model.codec(TemplateChoice::Auto, max_length, TooLong::Truncate);
    let loaded = load(Kind::Preferences, model.file("x.jsonl", line.to_string()), &codec).unwrap();
    assert!(loaded.groups[0].longest() <= max_length);
    (texts(&loaded.groups[0], &codec), loaded.report.truncated)
}

#[test]
fn truncation_cuts_the_responses_end() {
    let model = Model::new(Begin::Bos, None);
    let line = json!({"prompt": "1234", "chosen": "wxyz", "rejected": "lm"});
    let check = |max_length, expected: [&str; 3], cut| {
        let expected = expected.map(str::to_string).to_vec();
        assert_eq!(truncated(&model, max_length, &line), (expected, cut), "{max_length}");
    };
    check(10, ["<s>1234", "wxyz</s>", "lm</s>"], 0);
    check(9, ["<s>1234", "wxyz", "lm</s>"], 1);
    check(7, ["<s>1234", "wx", "lm"], 2);
    check(6, ["<s>1234", "w", "l"], 2);
    // No room is left beside the whole prompt: its end remains, after the beginning-of-sequence token.
    check(5, ["<s>4", "wxy", "lm</s>"], 2);
    check(4, ["<s>4", "wx", "lm"], 2);
    check(2, ["4", "w", "l"], 2);
}

/// An answer is to end as the others do, so that no prompt may lose that end.
#[test]
fn truncation_leaves_a_lone_prompts_end() {
    let model = Model::new(Begin::Bos, None);
    let (long, short) = (json!({"prompt": "123456789"}), json!({"prompt": "123", "answer": "of another"}));
    let path = model.file("x.jsonl", format!("{long}\n{short}"));
    let check = |max_length, expected: [&str; 2], cut: usize| {
        let codec = model.codec(TemplateChoice::Auto, max_length, TooLong::Truncate);
        let Loaded { groups, report } = load_answerable(std::slice::from_ref(&path), &ReadOptions::default(), &codec).unwrap();
        assert_eq!(texts(&groups[0], &codec), expected, "{max_length}");
        assert_eq!((report.truncated, report.cut_prompts), (0, cut));
        assert_eq!((report.unanswered, report.response_tokens), ([0, 1].into(), 0));
    };
    check(11, ["<s>123456789", "</s>"], 0);
    check(10, ["<s>6789", "</s>"], 1);
    check(6, ["<s>89", "</s>"], 1);
    let codec = model.codec(TemplateChoice::Auto, 10, TooLong::Drop);
    let Loaded { groups, report } = load_answerable(&[path], &ReadOptions::default(), &codec).unwrap();
    assert_eq!((groups.len(), report.dropped.as_slice()), (1, &[0][..]));
}

#[test]
fn a_pair_is_dropped_as_a_whole() {
    let model = Model::new(Begin::Bare, None);
    let lines = "{\"prompt\": \"q\", \"chosen\": \"r\", \"rejected\": \"too long\"}\n{\"prompt\": \"q\", \"chosen\": \"r\", \"rejected\": \"s\"}";
    let codec = model.codec(TemplateChoice::Auto, 5, TooLong::Drop);
    let loaded = load(Kind::Preferences, model.file("x.jsonl", lines), &codec).unwrap();
    assert_eq!(loaded.groups.iter().map(|group| group.index).collect::<Vec<_>>(), [1]);
    assert_eq!((loaded.report.dropped, loaded.report.lengths), (vec![0], vec![3, 10, 3, 3]));
}

#[test]
fn posts_are_shortened_to_the_formats_prompt_length() {
    let model = Model::new(Begin::Bare, None);
    let post = format!("{}\n{}", "x".repeat(300), "y".repeat(300));
    let line = json!({"subreddit": "s", "title": "t", "post": post, "summary": "z".repeat(60)}).to_string();
    let codec = model.codec(TemplateChoice::Auto, 2048, TooLong::Truncate);
    let loaded = load(Kind::Demonstrations, model.file("x.jsonl", &line), &codec).unwrap();
    let [prompt, response] = texts(&loaded.groups[0], &codec).try_into().unwrap();
    assert_eq!(prompt, format!("SUBREDDIT: r/s\n\nTITLE: t\n\nPOST: {}\n\nTL;DR:", "x".repeat(300)));
    assert_eq!(response, format!(" {}", "z".repeat(47)));
    assert_eq!((loaded.report.shortened, loaded.report.truncated), (1, 1));
    let error = load(Kind::Demonstrations, model.file("x.jsonl", &line), &model.auto()).unwrap_err();
    assert!(error.contains("the response has 61 tokens, but TL;DR summaries have at most 48"), "{error}");
}

#[test]
fn formats_and_columns_can_be_named() {
    let model = Model::new(Begin::Bare, None);
    let both = model.file("both.jsonl", r#"{"prompt": "p", "completion": "c", "instruction": "i", "output": "o"}"#);
    let codec = model.auto();
    let named = ReadOptions { format: Some(Format::PromptCompletion), ..ReadOptions::default() };
    let loaded = load_demonstrations(&[both], &named, &codec).unwrap();
    assert_eq!(texts(&loaded.groups[0], &codec), ["p", "c</s>"]);
    let own = model.file("own.jsonl", r#"{"question": "p", "answer": "c"}"#);
    let columns = [("prompt", "question"), ("completion", "answer")].map(|(known, own)| (known.to_string(), own.to_string()));
    let renamed = ReadOptions { columns: columns.into(), ..ReadOptions::default() };
    let loaded = load_demonstrations(&[own], &renamed, &codec).unwrap();
    assert_eq!(texts(&loaded.groups[0], &codec), ["p", "c</s>"]);
}

#[test]
fn a_template_that_prints_the_date_can_be_pinned() {
    let model = Model::new(Begin::Bare, Some("{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}"));
    let codec = model.auto();
    assert!(codec.is_dated());
    let codec = codec.at(0.0).unwrap();
    let file = model.file("x.jsonl", json!({"messages": conversation("q", "r")}).to_string());
    let loaded = load(Kind::Demonstrations, file, &codec).unwrap();
    assert_eq!(texts(&loaded.groups[0], &codec), ["1970q", "r"]);
}

fn inspected(model: &Model, line: &Value, paint: Paint) -> String {
    let mut out = Vec::new();
    let options = InspectOptions { read: ReadOptions::default(), examples: 1, paint };
    inspect(&mut out, &[model.file("x.jsonl", format!("{line}\n{line}\n"))], &options, &model.auto()).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn inspect_shows_what_is_masked() {
    let model = Model::new(Begin::Bare, Some(TEMPLATE));
    let line = json!({"prompt": user("é"), "chosen": assistant("w"), "rejected": assistant("l")});
    let text = inspected(&model, &line, Paint::Brackets);
    let expected = "--- example 0, chosen: 22 prompt tokens, 3 response tokens\n[prompt: <s><user>é</s>\n<assistant>][response: w</s>\n]\n\
                    --- example 0, rejected: 22 prompt tokens, 3 response tokens\n[prompt: <s><user>é</s>\n<assistant>][response: l</s>\n]\n\
                    2 examples read, 2 kept\n88 prompt tokens, 12 response tokens\ntokens per sequence: 25 to 25, median 25; 0 over the limit\n";
    assert!(text.starts_with(expected), "{text}");
    let text = inspected(&model, &json!({"messages": conversation("q", "r")}), Paint::Colours);
    let prompt = "\x1b[2;7m<s>\x1b[0m\x1b[2m<user>q\x1b[0m\x1b[2;7m</s>\x1b[0m\x1b[2m\n<assistant>\x1b[0m";
    let response = "\x1b[32mr\x1b[0m\x1b[32;7m</s>\x1b[0m\x1b[32m\n\x1b[0m";
    assert!(text.contains(&format!("{prompt}{response}\n")), "{text:?}");
}
