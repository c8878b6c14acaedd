//! What can be wrong with a run's settings, in words a user can act on.

use std::fmt;

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is the default.
    Default,
    /// A line of a run file.
    File {
        /// The path as the user gave it.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A line of an embedded recipe.
    Recipe {
        /// The recipe.
        name: &'static str,
        /// The line, from 1.
        line: usize,
    },
    /// A `--set` argument.
    Set(String),
    /// Another option, such as `--device`.
    Option(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { file, line } => write!(formatter, "{file}, line {line}"),
            Self::Recipe { name, line } => write!(formatter, "recipe {name}, line {line}"),
            Self::Set(text) => write!(formatter, "--set {text}"),
            Self::Option(name) => formatter.write_str(name),
        }
    }
}

/// A setting as it was made. Prints as `run.toml, line 3: sft.epochs = 0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Where.
    pub place: Place,
    /// Its path, such as `sft.epochs`.
    pub key: String,
    /// Its value as TOML.
    pub value: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} = {}", self.place, self.key, self.value)
    }
}

/// Why a run's settings cannot be used. Every one is the configuration's fault (exit code 78).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no run file of that name.
    #[error("{file}: there is no such run file; {remedy}")]
    Missing {
        /// The path as the user gave it.
        file: String,
        /// What to do.
        remedy: String,
    },
    /// The run file cannot be read.
    #[error("{file}: cannot be read: {reason}; a run file is a TOML text, such as `hbat recipes cat toy` prints")]
    Unreadable {
        /// The path as the user gave it.
        file: String,
        /// What the operating system said.
        reason: String,
    },
    /// The run file is no UTF-8.
    #[error("{place}: is not UTF-8; a run file is a TOML text in UTF-8, such as `hbat recipes cat toy` prints")]
    Utf8 {
        /// The first line with other bytes.
        place: Place,
    },
    /// The run file is no TOML.
    #[error("{place}: is no valid TOML: {reason} (in `{text}`)")]
    Syntax {
        /// The line.
        place: Place,
        /// What the parser said.
        reason: String,
        /// The line's text.
        text: String,
    },
    /// `--set` without a key or a value.
    #[error("--set {text}: {problem}; write --set KEY=VALUE, such as --set sft.learning_rate=1e-5")]
    Assignment {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`; {hint}")]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// Its path.
        key: String,
        /// The nearest known keys.
        hint: String,
    },
    /// A section's name with a value.
    #[error(
        "{place}: `{section}` is a section, not a setting; write [{section}] and its settings below, or {section}.KEY = VALUE"
    )]
    Section {
        /// Where it stands.
        place: Place,
        /// The section.
        section: String,
    },
    /// A value of the wrong type, or a word that is none of the known ones.
    #[error("{setting}: expected {expected}")]
    Type {
        /// The setting.
        setting: Box<Setting>,
        /// What is expected.
        expected: String,
    },
    /// A value out of range, or one that contradicts another setting.
    #[error("{setting}: {problem}; {remedy}")]
    Value {
        /// The setting.
        setting: Box<Setting>,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A setting that has no default.
    #[error("{source_name}: {key} is not set; {remedy}")]
    Unset {
        /// The run file or recipe.
        source_name: String,
        /// The setting.
        key: &'static str,
        /// What to do.
        remedy: &'static str,
    },
}
