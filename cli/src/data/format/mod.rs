//! The formats examples come in. A new one is a variant of [`Format`], a line in each table below, and a small file that reads it.

mod alpaca;
mod conversation;
mod hh;
mod paired;
pub(super) mod tldr;

use serde::{Deserialize, Serialize};

use super::codec::Style;
use super::error::{DataError, ExampleFault, FileFault};
use super::example::{Demonstration, Example, Kind, Text};
use super::record::Record;

/// How a file's columns make up an example. Run files name formats in kebab case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `prompt`, `completion`: texts or chat messages.
    PromptCompletion,
    /// `messages`: a conversation whose last assistant turns are the response.
    Messages,
    /// Stanford Alpaca's `instruction`, `input` (may be absent or empty), `output`.
    Alpaca,
    /// Reddit TL;DR's `subreddit`, `title`, `post`, `summary`.
    Tldr,
    /// `text` to model from its beginning on.
    Text,
    /// `prompt` alone, text or chat messages: to be answered.
    Prompt,
    /// `prompt`, `chosen`, `rejected`: texts or chat messages. Without a prompt of messages, `chosen` and `rejected` are whole
    /// conversations and what they share is the prompt.
    PromptChosenRejected,
    /// AlpacaFarm's `instruction`, `input`, `output_1`, `output_2`, `preference` (1 or 2).
    AlpacaFarm,
    /// Anthropic HH-RLHF's `chosen`, `rejected` transcripts.
    HhRlhf,
    /// TL;DR comparisons: `info`, `summaries`, `choice` (0 or 1).
    TldrComparisons,
}

impl Format {
    /// All formats, demonstrations first.
    pub const ALL: [Format; 10] = [
        Format::PromptCompletion,
        Format::Messages,
        Format::Alpaca,
        Format::Tldr,
        Format::Text,
        Format::Prompt,
        Format::PromptChosenRejected,
        Format::AlpacaFarm,
        Format::HhRlhf,
        Format::TldrComparisons,
    ];

    /// The name run files use.
    pub fn name(self) -> &'static str {
        match self {
            Format::PromptCompletion => "prompt-completion",
            Format::Messages => "messages",
            Format::Alpaca => "alpaca",
            Format::Tldr => "tldr",
            Format::Text => "text",
            Format::Prompt => "prompt",
            Format::PromptChosenRejected => "prompt-chosen-rejected",
            Format::AlpacaFarm => "alpaca-farm",
            Format::HhRlhf => "hh-rlhf",
            Format::TldrComparisons => "tldr-comparisons",
        }
    }

    /// What its examples are.
    pub fn kind(self) -> Kind {
        match self {
            Format::PromptCompletion | Format::Messages | Format::Alpaca | Format::Tldr | Format::Text => Kind::Demonstrations,
            Format::Prompt => Kind::Prompts,
            Format::PromptChosenRejected | Format::AlpacaFarm | Format::HhRlhf | Format::TldrComparisons => Kind::Preferences,
        }
    }

    /// The columns it is known by.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Format::PromptCompletion => &["prompt", "completion"],
            Format::Messages => &["messages"],
            Format::Alpaca => &["instruction", "output"],
            Format::Tldr => &["subreddit", "title", "post", "summary"],
            Format::Text => &["text"],
            Format::Prompt => &["prompt"],
            Format::PromptChosenRejected => &["prompt", "chosen", "rejected"],
            Format::AlpacaFarm => &["instruction", "output_1", "output_2", "preference"],
            Format::HhRlhf => &["chosen", "rejected"],
            Format::TldrComparisons => &["info", "summaries", "choice"],
        }
    }

    /// Whether any format reads a column of this name.
    pub(super) fn reads(column: &str) -> bool {
        ["input", "finish"].contains(&column) || Self::ALL.iter().any(|format| format.columns().contains(&column))
    }

    /// Whether a record looks like this format.
    fn fits(self, record: &Record) -> bool {
        let conversations = record.is_list("chosen") && record.is_list("rejected");
        match self {
            Format::PromptChosenRejected if conversations => true,
            Format::HhRlhf => self.has_columns(record) && !conversations && !record.has("prompt"),
            // Data sets of other formats carry a rendered `text` along.
            Format::Text => self.has_columns(record) && !Self::of_several_columns().any(|other| other.fits(record)),
            Format::Prompt => self.has_columns(record) && !Self::says_more_than_a_prompt(record),
            _ => self.has_columns(record),
        }
    }

    fn of_several_columns() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|format| !matches!(format, Format::Text | Format::Prompt))
    }

    /// Whether a record is of another format, or lacks but a part of one: one column, or how it is spelt.
    fn says_more_than_a_prompt(record: &Record) -> bool {
        let answered =
            ["completion", "chosen", "rejected"].iter().any(|column| record.has(column) || similar(column, record).is_some());
        answered || Self::of_several_columns().any(|other| other.fits(record))
    }

    /// Whether all records are what the first was taken for: a pair that is read as a prompt alone would lose its answers unseen.
    ///
    /// # Errors
    /// At the first that says more than a prompt.
    pub(super) fn all_alike(self, kinds: &[Kind], records: &[Record]) -> Result<(), DataError> {
        let odd = records.iter().find(|record| self == Format::Prompt && Self::says_more_than_a_prompt(record));
        odd.map_or(Ok(()), |odd| Err(odd.fault(ExampleFault::NotAlone { found: odd.columns(), setting: setting(kinds) })))
    }

    fn has_columns(self, record: &Record) -> bool {
        self.columns().iter().all(|column| record.has(column))
    }

    /// The format of examples like this one.
    ///
    /// # Errors
    /// If there is none, or more than one, or only one of another kind.
    pub(super) fn recognise(kinds: &[Kind], record: &Record) -> Result<Self, DataError> {
        let fitting: Vec<Format> = Self::ALL.into_iter().filter(|format| format.fits(record)).collect();
        let (wanted, others): (Vec<Format>, Vec<Format>) = fitting.into_iter().partition(|format| kinds.contains(&format.kind()));
        let fault = match (wanted.as_slice(), others.first()) {
            ([only], _) => return Ok(*only),
            // What has a prompt and no known response may have one under another name.
            ([], None | Some(Format::Prompt)) => mismatch(kinds, record),
            ([], Some(other)) => return other.check(kinds, record),
            (several, _) => {
                FileFault::Ambiguous { setting: setting(kinds), found: record.columns(), formats: list(several.iter().copied()) }
            }
        };
        Err(DataError::File { file: record.place.file.clone(), fault: Box::new(fault) })
    }

    /// This format, if it is of one of the kinds.
    pub(super) fn check(self, kinds: &[Kind], record: &Record) -> Result<Self, DataError> {
        if kinds.contains(&self.kind()) {
            return Ok(self);
        }
        let fault = FileFault::WrongKind {
            found: self.kind().name(),
            format: self.name(),
            wanted: names(kinds),
            examples: list(of(kinds)),
        };
        Err(DataError::File { file: record.place.file.clone(), fault: Box::new(fault) })
    }

    /// Reads an example.
    pub(super) fn example(self, record: &mut Record, style: Style) -> Result<Example, DataError> {
        match self {
            Format::PromptCompletion => paired::completion(record).map(Example::Demonstration),
            Format::Messages => conversation::messages(record).map(Example::Demonstration),
            Format::Alpaca => alpaca::demonstration(record, style).map(Example::Demonstration),
            Format::Tldr => tldr::demonstration(record).map(Example::Demonstration),
            Format::Text => text(record).map(Example::Demonstration),
            Format::Prompt => record.prompt("prompt").map(Example::Prompt),
            Format::PromptChosenRejected => paired::chosen_rejected(record).map(Example::Preference),
            Format::AlpacaFarm => alpaca::preference(record, style).map(Example::Preference),
            Format::HhRlhf => hh::preference(record).map(Example::Preference),
            Format::TldrComparisons => tldr::preference(record).map(Example::Preference),
        }
    }
}

fn text(record: &mut Record) -> Result<Demonstration, DataError> {
    Ok(Demonstration { prompt: Text::Nothing, response: Text::Plain(record.text("text")?) })
}

fn of(kinds: &[Kind]) -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| kinds.contains(&format.kind()))
}

fn list(formats: impl Iterator<Item = Format>) -> String {
    formats.map(|format| format!("{} ({})", format.name(), format.columns().join(", "))).collect::<Vec<_>>().join("; ")
}

fn names(kinds: &[Kind]) -> &'static str {
    match kinds {
        [only] => only.name(),
        [Kind::Preferences, Kind::Prompts] => "preferences or prompts",
        _ => "examples",
    }
}

/// Where a format can be named.
fn setting(kinds: &[Kind]) -> &'static str {
    match kinds {
        [Kind::Demonstrations] => "demonstration_format in a run file, or --format",
        [Kind::Preferences, ..] => "preference_format in a run file, or --format",
        _ => "--format (or, of the OTHERS of `hbat compare`, --others-format)",
    }
}

/// How columns can be mapped, and what there is for prompts alone, as the end of a sentence.
fn mapping(kinds: &[Kind], record: &Record) -> String {
    let map = |side| format!(", or map them in a run file: {side}_columns = {{ prompt = \"yours\" }}");
    match kinds {
        [Kind::Demonstrations] => map("demonstration"),
        [Kind::Preferences] if Format::Prompt.fits(record) => {
            format!("{}. Prompts alone are for training on the policy's own answers, by PPO or RAFT", map("preference"))
        }
        [Kind::Preferences, Kind::Prompts] if record.has("prompt") => {
            format!("{}. If these are prompts alone, set preference_format = \"prompt\"", map("preference"))
        }
        [Kind::Preferences, ..] => map("preference"),
        _ => String::new(),
    }
}

/// No format fits: the nearest one is that which lacks the fewest columns, misspelt ones counting half.
fn mismatch(kinds: &[Kind], record: &Record) -> FileFault {
    // What says more than a prompt lacks nothing of one, and is none.
    let nearest = of(kinds).filter(|format| *format != Format::Prompt || !record.has("prompt")).min_by_key(|format| {
        let lacking = lacking(*format, record);
        let misspelt = lacking.iter().filter(|(_, like)| like.is_some()).count();
        (1000 * (2 * lacking.len() - misspelt)) / format.columns().len()
    });
    let nearest = nearest.map_or_else(String::new, |format| {
        let lacking = lacking(format, record).into_iter().map(|(column, like)| match like {
            Some(like) => format!("{column} (is {like} meant for it?)"),
            None => column.to_owned(),
        });
        format!("{}, which lacks {}", format.name(), lacking.collect::<Vec<_>>().join(", "))
    });
    FileFault::Columns {
        mapping: mapping(kinds, record),
        kind: names(kinds),
        found: record.columns(),
        known: list(of(kinds)),
        nearest,
    }
}

/// A format's columns that a record lacks, each with the record's most similar column if there is one.
fn lacking(format: Format, record: &Record) -> Vec<(&'static str, Option<&str>)> {
    format.columns().iter().filter(|column| !record.has(column)).map(|column| (*column, similar(column, record))).collect()
}

/// The record's column that no format reads and that is most like this one, if it is like it.
fn similar<'a>(column: &str, record: &'a Record) -> Option<&'a str> {
    let similarity = |own: &String| strsim::jaro_winkler(&own.to_lowercase(), column);
    let candidates = record.fields.keys().filter(|own| !Format::reads(own));
    let best = candidates.max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    best.filter(|own| similarity(own) > 0.85).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::record::tests::record;
    use super::*;

    fn recognised(fields: Value) -> Result<Format, String> {
        Format::recognise(&Kind::ALL, &record(fields)).map_err(|error| error.to_string())
    }

    #[test]
    fn formats_are_known_by_their_columns() {
        let check = |fields: Value, expected: Format| assert_eq!(recognised(fields.clone()), Ok(expected), "{fields}");
        check(json!({"id": 1, "prompt": "", "completion": ""}), Format::PromptCompletion);
        check(json!({"messages": []}), Format::Messages);
        check(json!({"instruction": "", "output": ""}), Format::Alpaca);
        check(json!({"instruction": "", "input": "", "output": "", "text": ""}), Format::Alpaca);
        check(json!({"id": "", "subreddit": "", "title": "", "post": "", "summary": ""}), Format::Tldr);
        check(json!({"text": "", "meta": {}}), Format::Text);
        check(json!({"prompt": "", "id": 1}), Format::Prompt);
        check(json!({"prompt": [], "instruction": ""}), Format::Prompt);
        check(json!({"prompt": "", "answer": ""}), Format::Prompt);
        check(json!({"prompt": "", "chosen": "", "rejected": ""}), Format::PromptChosenRejected);
        check(json!({"chosen": [], "rejected": []}), Format::PromptChosenRejected);
        check(json!({"prompt": "", "chosen": [], "rejected": []}), Format::PromptChosenRejected);
        check(json!({"instruction": "", "input": "", "output_1": "", "output_2": "", "preference": 1}), Format::AlpacaFarm);
        check(json!({"chosen": "", "rejected": ""}), Format::HhRlhf);
        check(json!({"info": {}, "summaries": [], "choice": 0, "worker": ""}), Format::TldrComparisons);
    }

    #[test]
    fn the_kind_that_is_needed_decides() {
        let fields = json!({"prompt": "", "messages": [], "chosen": [], "rejected": []});
        assert_eq!(Format::recognise(&[Kind::Demonstrations], &record(fields.clone())), Ok(Format::Messages));
        assert_eq!(Format::recognise(&[Kind::Preferences], &record(fields.clone())), Ok(Format::PromptChosenRejected));
        let error = recognised(fields).unwrap_err();
        assert!(error.contains("fit more than one format: messages (messages); prompt-chosen-rejected"), "{error}");
        let rendered = record(json!({"prompt": "", "text": ""}));
        assert_eq!(Format::recognise(&[Kind::Demonstrations], &rendered), Ok(Format::Text));
        assert_eq!(Format::recognise(&[Kind::Preferences, Kind::Prompts], &rendered), Ok(Format::Prompt));
        let error = Format::recognise(&Kind::ALL, &rendered).unwrap_err().to_string();
        assert!(error.contains("fit more than one format: text (text); prompt (prompt); say which with --format"), "{error}");
    }

    #[test]
    fn the_other_kind_is_named() {
        let error = Format::recognise(&[Kind::Demonstrations], &record(json!({"chosen": "", "rejected": ""}))).unwrap_err();
        let expected = "x.jsonl: holds preferences (format hh-rlhf), but demonstrations are needed here; use formats such as prompt-completion";
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn the_nearest_format_is_suggested() {
        let check = |fields: Value, expected: &str| {
            let error = recognised(fields).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(json!({"promt": "", "completion": ""}), "Nearest: prompt-completion, which lacks prompt (is promt meant for it?)");
        check(
            json!({"prompt": "", "chosen": "", "reject": ""}),
            "Nearest: prompt-chosen-rejected, which lacks rejected (is reject meant for it?)",
        );
        check(
            json!({"prompt": "", "Chosen": "", "Rejected": ""}),
            "lacks chosen (is Chosen meant for it?), rejected (is Rejected meant",
        );
        check(json!({"prompt": "", "completions": ""}), "lacks completion (is completions meant for it?)");
        check(json!({"instruction": "", "output_1": "", "output_2": ""}), "Nearest: alpaca-farm, which lacks preference.");
        check(json!({"question": "", "answer": ""}), "its columns (question, answer) fit no format of examples");
    }

    #[test]
    fn run_files_name_formats_as_messages_do() {
        for format in Format::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
            assert_eq!(serde_json::from_value::<Format>(format.name().into()).unwrap(), format);
        }
    }
}
