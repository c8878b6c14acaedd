//! What can be wrong with a data file, in words a user can act on.

use std::sync::Arc;

use super::record::Place;
pub(super) use crate::text::describe;
use crate::text::{MessageFault, TextError};

/// Why examples could not be loaded. Every one is the data's fault (exit code 65).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// A file as a whole is unusable.
    #[error("{file}: {fault}")]
    File {
        /// The path as the user gave it.
        file: Arc<str>,
        /// What is wrong.
        fault: Box<FileFault>,
    },
    /// One example is unusable.
    #[error("{place}: {fault}")]
    Example {
        /// The file and the example in it.
        place: Place,
        /// What is wrong.
        fault: Box<ExampleFault>,
    },
    /// The model directory's tokenizer or template is unusable.
    #[error(transparent)]
    Text(Box<TextError>),
    /// A prompt that is not from a file comes to nothing.
    #[error("the prompt has no tokens and the tokenizer adds no beginning-of-sequence token; give it text")]
    EmptyPrompt,
    /// A prompt that leaves no room.
    #[error("the prompt has {tokens} tokens, and prompt and response together may have {max_length}; shorten it")]
    LongPrompt {
        /// The prompt's.
        tokens: usize,
        /// The limit.
        max_length: usize,
    },
    /// A prompt of a file that cannot be used.
    #[error("{place}: {error}")]
    Prompt {
        /// The file and the line or example in it.
        place: Place,
        /// What is wrong.
        error: Box<DataError>,
    },
    /// No file was named.
    #[error("no file of {kind} is named; give at least one path")]
    NoFiles {
        /// What was to be loaded.
        kind: &'static str,
    },
    /// A limit of no examples.
    #[error("the limit is 0, which leaves no examples; set it to 1 or more, or leave it out")]
    NoLimit,
    /// The length policy dropped everything.
    #[error(
        "{of}: no example is left: all {read} are longer than max_length = {max_length}; raise max_length, or set too_long = \"truncate\""
    )]
    NothingLeft {
        /// The files, or what was compared.
        of: String,
        /// How many were read.
        read: usize,
        /// The limit.
        max_length: usize,
    },
    /// A limit that no example can meet.
    #[error("max_length is {max_length}, but a prompt and a response need at least one token each; set it to 2 or more")]
    MaxLength {
        /// The limit.
        max_length: usize,
    },
}

impl DataError {
    /// The same, of the prompt at a place.
    pub(super) fn at(self, place: Place) -> Self {
        Self::Prompt { place, error: Box::new(self) }
    }
}

impl From<TextError> for DataError {
    fn from(error: TextError) -> Self {
        DataError::Text(Box::new(error))
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// There is none.
    #[error("there is no such file; check the path (a relative one is taken from the current directory)")]
    Missing,
    /// A directory was named.
    #[error("is a directory; name the files in it")]
    Directory,
    /// It cannot be read.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// What the operating system said.
        reason: String,
    },
    /// No bytes, or only blank ones.
    #[error("is empty; it should hold one JSON object per line, a JSON array of objects, or Parquet")]
    Empty,
    /// No line that is not blank.
    #[error("holds no prompts; write one on each line")]
    NoPrompts,
    /// Well-formed, but no examples in it.
    #[error("holds no examples; remove it from the list or fill it")]
    NoExamples,
    /// An answer that can be compared with nothing.
    #[error(
        "has no answer to the prompt of {place} ({prompt:?}), or one less often; compare answers to the same prompts, worded alike (the same \
         --template) and each as often"
    )]
    NoCounterpart {
        /// Where that prompt stands.
        place: Place,
        /// Its beginning.
        prompt: String,
    },
    /// Parquet that cannot be read out of order.
    #[error("is Parquet from a pipe, which can only be read in order; save it to a file first")]
    Pipe,
    /// Values between commas.
    #[error(
        "is .{extension}, which is not read; convert it, for example: python -c \"import pandas; pandas.read_csv('FILE').to_parquet('NEW.parquet')\""
    )]
    Csv {
        /// The extension.
        extension: String,
    },
    /// Neither text nor Parquet.
    #[error("is a binary file (byte {offset} is NUL), but no Parquet; readable are JSONL, JSON and Parquet")]
    Binary {
        /// Of the first NUL byte, from 0.
        offset: usize,
    },
    /// Compressed as a whole.
    #[error("is compressed ({tool}); unpack it first")]
    Compressed {
        /// With what.
        tool: &'static str,
    },
    /// UTF-16.
    #[error("is UTF-16; save it as UTF-8, for example: iconv -f UTF-16 -t UTF-8")]
    Utf16,
    /// Not UTF-8.
    #[error("line {line}: byte {offset} (0x{byte:02X}) is not UTF-8; convert the file to UTF-8 or repair the line")]
    Utf8 {
        /// Line, from 1.
        line: usize,
        /// Offset in the file, from 0.
        offset: usize,
        /// The byte.
        byte: u8,
    },
    /// The name promises something else than the content is.
    #[error("is named .{extension} but holds {content}; {remedy}")]
    Extension {
        /// The extension.
        extension: String,
        /// What is inside.
        content: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Text that is no JSON.
    #[error(
        "begins with {start:?}, which is neither JSONL (lines like {{\"prompt\": …}}) nor a JSON array ([{{…}}, …]) nor Parquet"
    )]
    Unknown {
        /// The first characters.
        start: String,
    },
    /// JSON with a mistake.
    #[error("line {line}, column {column}: is no valid JSON: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// What the parser said.
        reason: String,
    },
    /// JSON that ends in the middle.
    #[error("line {line}: the JSON ends in the middle; the file seems cut off, so fetch or write it again (or remove that line)")]
    CutOff {
        /// Line, from 1.
        line: usize,
    },
    /// A line or element that is no object.
    #[error("{at} is {found}, but every example is an object such as {{\"prompt\": \"…\", \"completion\": \"…\"}}")]
    NoObject {
        /// `line 3` or `element 2 (from 0)`.
        at: String,
        /// What stands there.
        found: String,
    },
    /// One object over several lines instead of an array.
    #[error(
        "holds one JSON object spread over several lines{keys}; write an array of examples ([{{…}}, …]) or one example per line"
    )]
    OneObject {
        /// Its keys, in words.
        keys: String,
    },
    /// Not readable as Parquet.
    #[error("cannot be read as Parquet: {reason}; if the file is cut off, fetch or write it again")]
    Parquet {
        /// What the Parquet library said.
        reason: String,
    },
    /// A row group that cannot be decoded.
    #[error("row {row} (from 0) cannot be read: {reason}; the file is damaged, so fetch or write it again")]
    ParquetRow {
        /// The row.
        row: usize,
        /// What the Parquet library said.
        reason: String,
    },
    /// A Parquet column of a type that is no text, number, list or object.
    #[error(
        "column {column:?} has the Parquet type {found}, which is no text, number, list or struct; convert it or leave it out"
    )]
    ParquetType {
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
    /// No format has these columns.
    #[error(
        "its columns ({found}) fit no format of {kind}. Formats: {known}. Nearest: {nearest}. Rename the \
         file's columns{mapping}"
    )]
    Columns {
        /// Where columns can be mapped, in words, or nothing.
        mapping: String,
        /// What was to be loaded.
        kind: &'static str,
        /// The columns there are.
        found: String,
        /// The formats and what they need.
        known: String,
        /// The format that lacks the least, and what it lacks.
        nearest: String,
    },
    /// Several formats have these columns.
    #[error("its columns ({found}) fit more than one format: {formats}; say which with {setting}")]
    Ambiguous {
        /// Where a format can be named.
        setting: &'static str,
        /// The columns there are.
        found: String,
        /// The formats.
        formats: String,
    },
    /// Preferences where demonstrations are needed, or the other way round.
    #[error("holds {found} (format {format}), but {wanted} are needed here; use formats such as {examples}")]
    WrongKind {
        /// What it holds.
        found: &'static str,
        /// Its format.
        format: &'static str,
        /// What is needed.
        wanted: &'static str,
        /// Formats of the kind needed.
        examples: String,
    },
    /// A column to be renamed is not there.
    #[error("has no column {own:?} to use as {known}; its columns are {found}")]
    Renamed {
        /// The name formats know.
        known: String,
        /// The name the run file gives.
        own: String,
        /// The columns there are.
        found: String,
    },
}

/// What is wrong with an example.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExampleFault {
    /// A column is absent.
    #[error("has no {column:?} (its columns: {found}); every example needs it")]
    MissingColumn {
        /// The column.
        column: &'static str,
        /// The columns there are.
        found: String,
    },
    /// More than a prompt, in a file of prompts.
    #[error(
        "has columns ({found}) of more than a prompt, but the file's first example is a prompt alone; keep them in files of their own, or \
         take all for prompts with the format prompt ({setting})"
    )]
    NotAlone {
        /// The columns there are.
        found: String,
        /// Where a format can be named.
        setting: &'static str,
    },
    /// A column is null.
    #[error("{column} is null; give it a value or remove the example")]
    Null {
        /// The column.
        column: &'static str,
    },
    /// A column is no text.
    #[error("{column} is {found}, but must be text (a JSON string)")]
    NotText {
        /// The column.
        column: &'static str,
        /// What stands there.
        found: String,
    },
    /// A column is neither text nor messages.
    #[error("{column} is {found}, but must be text or a list of chat messages")]
    NotTextOrMessages {
        /// The column.
        column: &'static str,
        /// What stands there.
        found: String,
    },
    /// A column is no list of messages.
    #[error("{column} is {found}, but must be a list of chat messages")]
    NoMessages {
        /// The column.
        column: &'static str,
        /// What stands there.
        found: String,
    },
    /// A list of messages is empty.
    #[error("{column} is an empty list; it needs at least one message")]
    EmptyList {
        /// The column.
        column: &'static str,
    },
    /// A chat message is malformed.
    #[error("{column}: {fault}")]
    Message {
        /// The column.
        column: &'static str,
        /// What is wrong.
        fault: MessageFault,
    },
    /// A prompt that already holds the answer, or asks nothing.
    #[error(
        "{column} ends with the {role}'s message, but a prompt ends with the user's or a tool's; move answers into the response"
    )]
    PromptEnd {
        /// The column.
        column: &'static str,
        /// Who speaks last.
        role: &'static str,
    },
    /// A response that does not begin with the assistant.
    #[error(
        "{column} begins with the {role}'s message, but a response begins with the assistant's; if {column} holds whole \
         conversations, leave the prompt column out"
    )]
    ResponseStart {
        /// The column.
        column: &'static str,
        /// Who speaks first.
        role: &'static str,
    },
    /// A conversation that ends without an answer.
    #[error("{column} ends with the {role}'s message, but its last message is what is learned and must be the assistant's")]
    NoAnswer {
        /// The column.
        column: &'static str,
        /// Who speaks last.
        role: &'static str,
    },
    /// A conversation with nothing but the answer.
    #[error("{column} has no message before the assistant's answer; a response needs a prompt")]
    NoQuestion {
        /// The column.
        column: &'static str,
    },
    /// Two conversations that do not begin alike.
    #[error(
        "chosen and rejected do not begin with the same messages, so there is no common prompt; add a prompt column or \
         remove the example"
    )]
    NoCommonPrompt,
    /// A label that is neither of two numbers.
    #[error("{column} is {found}, but must be {first} or {second}: which of the two responses is better")]
    Label {
        /// The column.
        column: &'static str,
        /// What stands there.
        found: String,
        /// The one number.
        first: i64,
        /// The other.
        second: i64,
    },
    /// A transcript without the assistant's turn.
    #[error(
        "{column} has no \"\\n\\nAssistant:\" (it begins {start:?}); HH-RLHF transcripts alternate \"\\n\\nHuman:\" and \"\\n\\nAssistant:\""
    )]
    NoTurn {
        /// The column.
        column: &'static str,
        /// How the transcript begins.
        start: String,
    },
    /// Transcripts with different prompts.
    #[error(
        "chosen and rejected differ before the last \"\\n\\nAssistant:\" (chosen there: {chosen:?}, rejected: {rejected:?}); remove the example"
    )]
    DifferentPrompts {
        /// The end of the chosen transcript's prompt.
        chosen: String,
        /// The end of the rejected transcript's prompt.
        rejected: String,
    },
    /// TL;DR comparisons come as two summaries.
    #[error("summaries must be a list of two objects with a text, but {found}")]
    Summaries {
        /// What stands there.
        found: String,
    },
    /// A TL;DR comparison without a field of its post.
    #[error("info has no text {field:?} (it has: {found}); TL;DR comparisons need info.subreddit, info.title and info.post")]
    Info {
        /// The field.
        field: &'static str,
        /// What there is.
        found: String,
    },
    /// Nothing to predict the response from.
    #[error(
        "the prompt has no tokens and the tokenizer adds no beginning-of-sequence token; give the prompt text or remove the \
         example"
    )]
    EmptyPrompt,
    /// Nothing to learn.
    #[error("the {response} has no tokens; give it text or remove the example")]
    EmptyResponse {
        /// Which response.
        response: &'static str,
    },
    /// Longer than allowed, and the policy is to say so.
    #[error(
        "the {response} has {tokens} tokens after a prompt of {prompt}, {total} together, but max_length is {max_length}; raise \
         max_length, or set too_long = \"drop\" or \"truncate\""
    )]
    TooLong {
        /// Which response.
        response: &'static str,
        /// Its tokens.
        tokens: usize,
        /// The prompt's tokens.
        prompt: usize,
        /// Both.
        total: usize,
        /// The limit.
        max_length: usize,
    },
    /// A TL;DR summary longer than its format allows.
    #[error(
        "the {response} has {tokens} tokens, but TL;DR summaries have at most {limit}; set too_long = \"drop\" or \"truncate\""
    )]
    LongSummary {
        /// Which response.
        response: &'static str,
        /// Its tokens, without the end-of-sequence token.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// The tokenizer or the chat template fails on it.
    #[error("{0}")]
    Text(TextError),
}
