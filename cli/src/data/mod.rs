//! Data sets: files to demonstrations and preferences to token groups.
//!
//! `read` turns files into records, [`Format`] records into examples, [`Codec`] examples into tokens; each knows nothing of the next. An
//! example's index counts over all files in the order given and over examples that were dropped, so it names the same example in
//! every run.

mod answers;
mod codec;
mod error;
mod example;
mod format;
mod inspect;
mod read;
mod record;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hbat::tokens::Group;
use rayon::prelude::*;

pub use answers::{Answer, Comparison, encode_comparisons, load_answers, written};
pub use codec::{Codec, CodecOptions, Style, TemplateChoice, TooLong};
pub use error::{DataError, ExampleFault, FileFault};
pub use example::{Demonstration, Example, Kind, Preference, Text};
pub use format::Format;
pub use format::tldr::{PROMPT as TLDR_PROMPT, Post, SUMMARY as TLDR_SUMMARY};
pub use inspect::{InspectError, InspectOptions, Paint, inspect};
pub use record::{Place, Spot};
pub use report::LengthReport;

use codec::{Author, Encoded};
use read::Asked;
use record::Record;

use crate::text::{Message, Role};

/// How files are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// The format; recognised by each file's columns if not given.
    pub format: Option<Format>,
    /// Only the first so many examples, over all files.
    pub limit: Option<usize>,
    /// Columns under other names: the format's name to the file's.
    pub columns: BTreeMap<String, String>,
}

impl ReadOptions {
    /// Whether a column may be part of an example.
    fn wants(&self, column: &str) -> bool {
        Format::reads(column) || self.columns.values().any(|own| own == column)
    }
}

/// A data set in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// One group per example kept, in file order.
    pub groups: Vec<Group>,
    /// What was found and done.
    pub report: LengthReport,
}

/// Loads demonstrations: groups of one sequence.
///
/// # Errors
/// At the first file or example that is unusable, with its place and the remedy.
pub fn load_demonstrations(paths: &[PathBuf], options: &ReadOptions, codec: &Codec) -> Result<Loaded, DataError> {
    load(&[Kind::Demonstrations], paths, options, codec)
}

/// Loads preferences: groups of two sequences, the chosen one first.
///
/// # Errors
/// As [`load_demonstrations`].
pub fn load_preferences(paths: &[PathBuf], options: &ReadOptions, codec: &Codec) -> Result<Loaded, DataError> {
    load(&[Kind::Preferences], paths, options, codec)
}

/// Loads what is to be answered: preferences, as [`load_preferences`] does, or prompts alone, groups of one sequence whose response is but the end
/// that answers have.
///
/// # Errors
/// As [`load_demonstrations`].
pub fn load_answerable(paths: &[PathBuf], options: &ReadOptions, codec: &Codec) -> Result<Loaded, DataError> {
    load(&[Kind::Preferences, Kind::Prompts], paths, options, codec)
}

/// What a model is given, and its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// As examples have it.
    pub text: Text,
    /// As the model reads it.
    pub tokens: Vec<u32>,
}

impl Prompt {
    /// A text that a person typed: a message to a model that has a chat template, taken as it is by others.
    ///
    /// # Errors
    /// As [`Codec::prompt`].
    pub fn typed(text: String, codec: &Codec) -> Result<Self, DataError> {
        let text = match codec.style() {
            Style::Chat => Text::Chat(vec![Message::new(Role::User, &text)]),
            Style::Plain => Text::Plain(text),
        };
        Self::new(text, codec)
    }

    fn new(text: Text, codec: &Codec) -> Result<Self, DataError> {
        let tokens = codec.prompt(&text)?;
        Ok(Self { text, tokens })
    }
}

/// Loads prompts alone: those of examples, or the lines of a text that are not blank. A text that holds examples is taken for these, and so is
/// every file where a format is given.
///
/// # Errors
/// If the file cannot be read, holds nothing, or a prompt cannot be put into tokens.
pub fn load_prompts(path: &Path, options: &ReadOptions, codec: &Codec) -> Result<Vec<Prompt>, DataError> {
    let limit = options.limit.unwrap_or(usize::MAX);
    let wanted = |column: &str| options.wants(column);
    let records = match options.format {
        Some(_) => read::read(path, limit, &wanted)?,
        None => match read::read_prompts(path, limit, &wanted)? {
            Asked::Records(records) => records,
            Asked::Lines(lines) => {
                let prompt = |(place, line)| Prompt::typed(line, codec).map_err(|error| error.at(place));
                return lines.into_iter().map(prompt).collect();
            }
        },
    };
    let (format, records) = understood(&Kind::ALL, path, options, records)?;
    let prompt = |mut record: Record| {
        let example = format.example(&mut record, codec.style())?;
        Prompt::new(example.prompt().clone(), codec).map_err(|error| error.at(record.place))
    };
    records.into_iter().map(prompt).collect()
}

/// Loads examples of any of the kinds; they are the same for all of a file.
fn load(kinds: &[Kind], paths: &[PathBuf], options: &ReadOptions, codec: &Codec) -> Result<Loaded, DataError> {
    if paths.is_empty() {
        return Err(DataError::NoFiles { kind: kinds.first().map_or("examples", |kind| kind.name()) });
    }
    if options.limit == Some(0) {
        return Err(DataError::NoLimit);
    }
    let mut encoded = Vec::new();
    for path in paths {
        let left = options.limit.map_or(usize::MAX, |limit| limit - encoded.len());
        if left == 0 {
            break;
        }
        let (format, records) = records(kinds, path, options, left)?;
        let first = encoded.len();
        for example in encode(records, first, format, codec) {
            encoded.push(example?);
        }
    }
    let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    Loaded::of(encoded, codec.max_length(), files.join(", "))
}

/// Encodes records on all cores; the results are in the records' order, so that the first error is always the same one.
fn encode(records: Vec<Record>, first: usize, format: Format, codec: &Codec) -> Vec<Result<Encoded, DataError>> {
    let numbered = records.into_par_iter().enumerate();
    let encoded = numbered.map(|(offset, mut record)| {
        let example = format.example(&mut record, codec.style())?;
        codec.example(first + offset, &example, Author::DataSet).map_err(|fault| record.fault(fault))
    });
    encoded.collect()
}

/// A file's records, columns renamed, and their format.
fn records(kinds: &[Kind], path: &Path, options: &ReadOptions, limit: usize) -> Result<(Format, Vec<Record>), DataError> {
    let records = read::read(path, limit, &|column| options.wants(column))?;
    understood(kinds, path, options, records)
}

fn understood(
    kinds: &[Kind],
    path: &Path,
    options: &ReadOptions,
    mut records: Vec<Record>,
) -> Result<(Format, Vec<Record>), DataError> {
    for record in &mut records {
        record.rename(&options.columns)?;
    }
    let Some(first) = records.first() else {
        let file = path.display().to_string().into();
        return Err(DataError::File { file, fault: Box::new(FileFault::NoExamples) });
    };
    let format = match options.format {
        Some(format) => format.check(kinds, first)?,
        None => {
            let format = Format::recognise(kinds, first)?;
            format.all_alike(kinds, &records)?;
            format
        }
    };
    Ok((format, records))
}

impl Loaded {
    /// All examples that the length policy leaves.
    fn of(encoded: Vec<Encoded>, max_length: usize, what: String) -> Result<Self, DataError> {
        let mut loaded = Self { groups: Vec::new(), report: LengthReport { max_length, ..LengthReport::default() } };
        encoded.into_iter().for_each(|encoded| loaded.push(encoded));
        if loaded.groups.is_empty() {
            return Err(DataError::NothingLeft { of: what, read: loaded.report.read, max_length });
        }
        Ok(loaded)
    }

    fn push(&mut self, encoded: Encoded) {
        let report = &mut self.report;
        let index = report.read;
        report.read += 1;
        report.lengths.extend(encoded.lengths);
        report.truncated += encoded.truncated;
        report.cut_prompts += encoded.cut_prompts;
        if encoded.kind == Kind::Prompts {
            report.unanswered.insert(index);
        }
        report.shortened += usize::from(encoded.shortened);
        match encoded.group {
            Some(group) => self.keep(group),
            None => report.dropped.push(index),
        }
    }

    fn keep(&mut self, group: Group) {
        let report = &mut self.report;
        report.kept += 1;
        report.prompt_tokens += group.sequences.iter().map(|sequence| sequence.prompt().len()).sum::<usize>();
        if !report.unanswered.contains(&group.index) {
            report.response_tokens += group.response_tokens();
        }
        if let [chosen, rejected] = group.sequences.as_slice() {
            report.identical += usize::from(chosen == rejected);
        }
        self.groups.push(group);
    }
}
