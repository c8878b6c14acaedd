//! Shows what the model is trained on: examples with their tokens coloured by mask.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use hbat::tokens::{Group, Sequence};

use super::{Codec, DataError, Kind, Loaded, ReadOptions, load};
use crate::report::harmless;
use crate::text::{Special, TextError, Tokenizer};

/// How tokens are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Terminal colours: prompts dim, responses green, special tokens reversed.
    Colours,
    /// Brackets: `[prompt: …]`, `[response: …]`.
    Brackets,
}

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set to anything.
    pub fn detect(out: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if out.is_terminal() && !refused { Paint::Colours } else { Paint::Brackets }
    }
}

/// What to show of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectOptions {
    /// How to read the file.
    pub read: ReadOptions,
    /// How many examples to print; counts and histogram are over all that are read.
    pub examples: usize,
    /// How to tell tokens apart.
    pub paint: Paint,
}

/// Why a file could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The data, or the model directory, is unusable.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The output cannot be written to.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl From<TextError> for InspectError {
    fn from(error: TextError) -> Self {
        InspectError::Data(error.into())
    }
}

/// Prints the first examples of files, then counts and a histogram of lengths. The kind of data is recognised; files must agree in it.
///
/// # Errors
/// If the data is unusable or `out` fails.
pub fn inspect(out: &mut impl Write, paths: &[PathBuf], options: &InspectOptions, codec: &Codec) -> Result<(), InspectError> {
    let Loaded { groups, report } = load(&Kind::ALL, paths, &options.read, codec)?;
    let printer = Printer { tokenizer: codec.tokenizer(), paint: options.paint };
    for group in groups.iter().take(options.examples) {
        match report.unanswered.contains(&group.index) {
            true => printer.prompt(out, group)?,
            false => printer.group(out, group)?,
        }
    }
    write!(out, "{report}")?;
    for warning in report.warnings() {
        writeln!(out, "{warning}")?;
    }
    Ok(())
}

struct Printer<'a> {
    tokenizer: &'a Tokenizer,
    paint: Paint,
}

/// Which part of a sequence: what the mask says.
#[derive(Clone, Copy)]
enum Side {
    Prompt,
    Response,
    /// What an answer is to end with.
    End,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Prompt => "prompt",
            Side::Response => "response",
            Side::End => "end of an answer",
        }
    }
}

impl Printer<'_> {
    fn group(&self, out: &mut impl Write, group: &Group) -> Result<(), InspectError> {
        let names: &[&str] = if group.sequences.len() == 1 { &[""] } else { &[", chosen", ", rejected"] };
        for (sequence, name) in group.sequences.iter().zip(names) {
            let (prompt, response) = (sequence.prompt().len(), sequence.response().len());
            writeln!(out, "--- example {}{name}: {prompt} prompt tokens, {response} response tokens", group.index)?;
            self.sequence(out, sequence, Side::Response)?;
        }
        Ok(())
    }

    /// One that is to be answered.
    fn prompt(&self, out: &mut impl Write, group: &Group) -> Result<(), InspectError> {
        for sequence in &group.sequences {
            writeln!(out, "--- example {}: {} prompt tokens, to be answered", group.index, sequence.prompt().len())?;
            self.sequence(out, sequence, Side::End)?;
        }
        Ok(())
    }

    fn sequence(&self, out: &mut impl Write, sequence: &Sequence, second: Side) -> Result<(), InspectError> {
        self.side(out, Side::Prompt, sequence.prompt())?;
        self.side(out, second, sequence.response())?;
        writeln!(out)?;
        Ok(())
    }

    fn side(&self, out: &mut impl Write, side: Side, tokens: &[u32]) -> Result<(), InspectError> {
        if self.paint == Paint::Brackets {
            write!(out, "[{}: ", side.name())?;
        }
        for run in tokens.chunk_by(|a, b| self.tokenizer.is_special(*a) == self.tokenizer.is_special(*b)) {
            self.run(out, side, run)?;
        }
        if self.paint == Paint::Brackets {
            write!(out, "]")?;
        }
        Ok(())
    }

    /// Tokens that are all special or all not. Others are decoded together: one character may be several tokens.
    fn run(&self, out: &mut impl Write, side: Side, run: &[u32]) -> Result<(), InspectError> {
        let special = run.first().is_some_and(|token| self.tokenizer.is_special(*token));
        let text = if special {
            run.iter().map(|token| self.tokenizer.token(*token).unwrap_or_else(|| format!("<{token}>"))).collect()
        } else {
            harmless(&self.tokenizer.decode(run, Special::Shown)?)
        };
        let code = match (side, special) {
            _ if self.paint == Paint::Brackets => return Ok(write!(out, "{text}")?),
            (Side::Prompt, false) => "2",
            (Side::Prompt, true) => "2;7",
            (Side::Response, false) => "32",
            (Side::Response, true) => "32;7",
            (Side::End, false) => "33",
            (Side::End, true) => "33;7",
        };
        Ok(write!(out, "\x1b[{code}m{text}\x1b[0m")?)
    }
}
