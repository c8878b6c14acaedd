//! Token ids of whole data sets against the Hugging Face tokenizer, and the same data in different files.

use std::path::PathBuf;

use hbat::tokens::Group;
use hbat_cli::data::{Codec, CodecOptions, LengthReport, Loaded, ReadOptions, TemplateChoice, TooLong};
use hbat_cli::data::{load_demonstrations, load_preferences};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{data, golden, skip, smollm2};

/// The test data and the test model, whose tokenizer it is read with.
struct Real {
    data: PathBuf,
    model: PathBuf,
}

impl Real {
    /// `None` after recording a skip.
    fn find() -> Option<Self> {
        let (Some(data), Some(model)) = (data(), smollm2()) else {
            skip("the test data or the test model is not here");
            return None;
        };
        Some(Self { data, model })
    }

    fn codec(&self, options: CodecOptions) -> Codec {
        Codec::load(&self.model, options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A codec without a limit on length.
    fn whole(&self, template: TemplateChoice) -> Codec {
        self.codec(CodecOptions { template, max_length: 1 << 20, too_long: TooLong::Error })
    }
}

fn load(path: PathBuf, codec: &Codec) -> Loaded {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let preferences = name.starts_with("preferences") || name.starts_with("alpaca_farm");
    let load = if preferences { load_preferences } else { load_demonstrations };
    load(&[path], &ReadOptions::default(), codec).unwrap_or_else(|error| panic!("{error}"))
}

/// A prompt and its responses as the golden file's digests take them: each list of ids after its length.
fn bytes(group: &Group) -> Vec<u8> {
    let prompt = group.sequences[0].prompt();
    let lists = std::iter::once(prompt).chain(group.sequences.iter().map(|sequence| sequence.response()));
    lists.flat_map(|ids| std::iter::once(ids.len() as u32).chain(ids.iter().copied())).flat_map(u32::to_le_bytes).collect()
}

fn digest<'a>(groups: impl IntoIterator<Item = &'a Group>) -> String {
    let mut hash = Sha256::new();
    groups.into_iter().for_each(|group| hash.update(bytes(group)));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which ten examples differ first, for whoever must find out why.
fn difference(groups: &[Group], entry: &Value) -> String {
    let blocks = entry["blocks"].as_array().expect("blocks");
    let wrong = groups.chunks(10).zip(blocks).position(|(ten, block)| !digest(ten).starts_with(block.as_str().unwrap()));
    format!("{} {}: ten examples from {:?} on differ", entry["file"], entry["mode"], wrong.map(|block| 10 * block))
}

fn number(entry: &Value, key: &str) -> usize {
    entry[key].as_u64().unwrap_or_else(|| panic!("{key} in the golden file")) as usize
}

#[track_caller]
fn check(real: &Real, entry: &Value) {
    let template = if entry["mode"] == "chat" { TemplateChoice::Model } else { TemplateChoice::Plain };
    let Loaded { groups, report } = load(real.data.join(entry["file"].as_str().unwrap()), &real.whole(template));
    assert_eq!(report.kept, number(entry, "count"), "{}", entry["file"]);
    for stored in entry["examples"].as_array().unwrap() {
        let group = &groups[number(stored, "index")];
        assert_eq!(serde_json::json!(group.sequences[0].prompt()), stored["prompt"], "{} {}", entry["file"], stored["index"]);
        let responses: Vec<&[u32]> = group.sequences.iter().map(|sequence| sequence.response()).collect();
        assert_eq!(serde_json::json!(responses), stored["responses"], "{} {}", entry["file"], stored["index"]);
    }
    assert!(groups.iter().all(|group| group.sequences.iter().all(|s| s.prompt() == group.sequences[0].prompt())));
    assert_eq!(digest(&groups), entry["sha256"].as_str().unwrap(), "{}", difference(&groups, entry));
    assert_eq!(report.response_tokens, number(entry, "response_tokens"));
    assert_eq!(report.prompt_tokens, number(entry, "prompt_tokens") * groups[0].sequences.len());
}

#[test]
fn every_token_equals_that_of_the_hugging_face_tokenizer() {
    let Some(real) = Real::find() else { return };
    let golden = golden("tokens");
    let entries = golden["files"].as_array().expect("files");
    assert_eq!(entries.len(), 18);
    entries.iter().for_each(|entry| check(&real, entry));
}

/// The same examples from files of different kinds; the report counts the same too.
fn same(real: &Real, files: [&str; 3], template: TemplateChoice) {
    let codec = real.whole(template);
    let [first, rest @ ..] = files.map(|file| load(real.data.join(file), &codec));
    for other in rest {
        assert_eq!(first.groups, other.groups, "{files:?}");
        assert_eq!(first.report, other.report, "{files:?}");
    }
}

#[test]
fn json_lines_arrays_and_parquet_give_the_same_tokens() {
    let Some(real) = Real::find() else { return };
    for split in ["train", "valid", "test"] {
        let [lines, parquet, alpaca] =
            ["demonstrations.#.jsonl", "demonstrations.#.parquet", "alpaca.#.json"].map(|name| name.replace('#', split));
        same(&real, [&lines, &parquet, &alpaca], TemplateChoice::Auto);
    }
    same(
        &real,
        ["preferences.valid.jsonl", "preferences.valid.parquet", "alpaca_farm_preference.valid.json"],
        TemplateChoice::Auto,
    );
}

#[test]
fn several_files_are_one_data_set() {
    let Some(real) = Real::find() else { return };
    let codec = real.whole(TemplateChoice::Model);
    let paths = ["demonstrations.valid.parquet", "demonstrations.test.jsonl"].map(|name| real.data.join(name));
    let whole = load_demonstrations(&paths, &ReadOptions::default(), &codec).unwrap();
    assert_eq!(whole.groups.iter().map(|group| group.index).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
    let limited = ReadOptions { limit: Some(120), ..ReadOptions::default() };
    let part = load_demonstrations(&paths, &limited, &codec).unwrap();
    assert_eq!(part.groups, whole.groups[..120]);
}

/// Policies on real data: what is dropped or cut is counted, and indices stay those of the file.
#[test]
fn length_policies_keep_count() {
    let Some(real) = Real::find() else { return };
    let path = real.data.join("demonstrations.valid.jsonl");
    let with = |too_long, max_length| {
        let codec = real.codec(CodecOptions { template: TemplateChoice::Model, max_length, too_long });
        load_demonstrations(std::slice::from_ref(&path), &ReadOptions::default(), &codec)
    };
    let whole = with(TooLong::Error, 4096).unwrap();
    let over: Vec<usize> = whole.groups.iter().filter(|group| group.longest() > 256).map(|group| group.index).collect();
    assert!(over.len() > 5 && over.len() < 95, "the limit parts the data: {}", over.len());
    let dropped = with(TooLong::Drop, 256).unwrap();
    assert_eq!(dropped.report.dropped, over);
    assert!(dropped.groups.iter().all(|group| *group == whole.groups[group.index]));
    let LengthReport { read, kept, .. } = dropped.report;
    assert_eq!((read, kept), (100, 100 - over.len()));
    let cut = with(TooLong::Truncate, 256).unwrap();
    assert_eq!((cut.report.truncated, cut.report.kept, cut.report.over()), (over.len(), 100, over.len()));
    for (group, whole) in cut.groups.iter().zip(&whole.groups) {
        let (cut, whole) = (&group.sequences[0], &whole.sequences[0]);
        assert_eq!(cut.tokens(), &whole.tokens()[..cut.tokens().len()]);
        assert_eq!(cut.tokens().len(), whole.tokens().len().min(256));
    }
    let error = with(TooLong::Error, 256).unwrap_err().to_string();
    assert!(error.contains(&format!("demonstrations.valid.jsonl, line {}: the response has", over[0] + 1)), "{error}");
}
