//! The layers of a run's settings: defaults, a run file, `--set`, other options. The later one wins, and every setting
//! remembers where it was made.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};
use toml::{Spanned, Table, Value};

use super::defaults;
use super::error::{ConfigError, Place, Setting};
use super::expected;
use super::run_file::{AUTO, NONE, RunFile, TOY};
use super::suggest;

/// Settings that are a path, or one of these words that stand for one.
const PATHS: [(&str, &[&str]); 5] = [
    ("model.path", &[TOY]),
    ("output", &[AUTO]),
    ("ppo.reward_model", &[]),
    ("raft.reward_model", &[]),
    ("checkpoints.reference_cache", &[AUTO, NONE]),
];

/// Settings that are lists of files.
const FILES: [&str; 4] = ["data.demonstrations", "data.preferences", "validation.demonstrations", "validation.preferences"];

/// A TOML text whose settings are to be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a> {
    /// The text.
    pub(super) text: &'a str,
    /// Where it comes from.
    pub(super) origin: Origin<'a>,
    /// The folder from which its relative paths are taken.
    pub(super) folder: &'a Path,
}

/// Where a layer comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'a> {
    /// A run file, as the user named it.
    File(&'a str),
    /// An embedded recipe.
    Recipe(&'static str),
    /// A `--set` argument.
    Set(&'a str),
}

impl Layer<'_> {
    fn place(&self, offset: usize) -> Place {
        let line = self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1;
        match self.origin {
            Origin::File(file) => Place::File { file: file.to_owned(), line },
            Origin::Recipe(name) => Place::Recipe { name, line },
            Origin::Set(text) => Place::Set(text.to_owned()),
        }
    }

    /// What the parser has to say, with the line it says it about.
    fn syntax(&self, error: &Error) -> ConfigError {
        let offset = error.span().map_or(0, |span| span.start.min(self.text.len()));
        let before = self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count();
        let text = self.text.lines().nth(before).unwrap_or_default().trim();
        let text: String = text.chars().take(80).collect();
        ConfigError::Syntax { place: self.place(offset), reason: error.message().to_owned(), text }
    }
}

/// The merged settings.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    table: Table,
    places: BTreeMap<String, Place>,
}

impl Layers {
    /// The defaults alone.
    pub(super) fn new() -> Self {
        Self { table: defaults::table(), places: BTreeMap::new() }
    }

    /// Adds a text's settings.
    pub(super) fn add(&mut self, layer: Layer<'_>) -> Result<(), ConfigError> {
        let table = DeTable::parse(layer.text).map_err(|error| layer.syntax(&error))?;
        self.enter(table.into_inner(), "", &layer)
    }

    /// Adds a `--set` argument. A value that is no TOML is taken as text, for shells remove quotes.
    pub(super) fn set(&mut self, assignment: &str, folder: &Path) -> Result<(), ConfigError> {
        let problem = |problem| ConfigError::Assignment { text: assignment.to_owned(), problem };
        let (key, value) = assignment.split_once('=').ok_or_else(|| problem("there is no ="))?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            return Err(problem("there is no key before the ="));
        }
        if value.is_empty() {
            return Err(problem("there is no value after the ="));
        }
        let text = readings(key, value).into_iter().find(|text| DeTable::parse(text).is_ok());
        let text = text.ok_or_else(|| problem("the key is no dotted path of names"))?;
        self.add(Layer { text: &text, origin: Origin::Set(assignment), folder })
    }

    /// Adds an option of the command line.
    pub(super) fn option(&mut self, name: &'static str, key: &str, value: String) -> Result<(), ConfigError> {
        self.put(key, Value::String(value), Place::Option(name))
    }

    /// Walks through a table of the layer in the order of its text.
    fn enter(&mut self, table: DeTable<'_>, section: &str, layer: &Layer<'_>) -> Result<(), ConfigError> {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (name, value) in entries {
            let place = layer.place(name.span().start);
            let key = defaults::join(section, name.get_ref());
            let Some(default) = defaults::lookup(&defaults::table(), &key).cloned() else {
                return Err(ConfigError::UnknownKey { place, hint: suggest::instead_of(&key), key });
            };
            if default.is_table() && !defaults::MAPS.contains(&key.as_str()) {
                match value.into_inner() {
                    DeValue::Table(inner) => self.enter(inner, &key, layer)?,
                    _ => return Err(ConfigError::Section { place, section: key }),
                }
            } else {
                let value = adapted(&key, plain(value).map_err(|error| layer.syntax(&error))?, layer);
                self.put(&key, value, place)?;
            }
        }
        Ok(())
    }

    /// Takes one setting if its type is right.
    fn put(&mut self, key: &str, value: Value, place: Place) -> Result<(), ConfigError> {
        let mut alone = defaults::table();
        *leaf(&mut alone, key) = value.clone();
        if let Err(error) = alone.try_into::<RunFile>() {
            let setting = Setting { place, key: key.to_owned(), value: defaults::written(&value) };
            return Err(ConfigError::Type { setting: Box::new(setting), expected: expected::by(key, &error) });
        }
        *leaf(&mut self.table, key) = value;
        self.places.insert(key.to_owned(), place);
        Ok(())
    }

    /// All settings.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// All settings, typed.
    pub(super) fn run_file(&self) -> RunFile {
        self.table.clone().try_into().expect("every setting was checked when it was taken")
    }

    /// A setting as it was made.
    pub(super) fn setting(&self, key: &str) -> Box<Setting> {
        let place = self.places.get(key).cloned().unwrap_or(Place::Default);
        let value = defaults::lookup(&self.table, key).map_or_else(String::new, defaults::written);
        Box::new(Setting { place, key: key.to_owned(), value })
    }

    /// The refusal of a setting.
    pub(super) fn refuse(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        ConfigError::Value { setting: self.setting(key), problem: problem.into(), remedy: remedy.into() }
    }
}

/// The texts that `--set key=value` can mean: TOML, a list of words, a word.
fn readings(key: &str, value: &str) -> Vec<String> {
    let quoted = |word: &str| Value::String(word.trim().to_owned()).to_string();
    let list = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let list = list.map(|words| format!("[{}]", words.split(',').map(quoted).collect::<Vec<_>>().join(", ")));
    let path = PATHS.iter().any(|(path, _)| *path == key) && !value.starts_with(['"', '\'']);
    let values = [(!path).then(|| value.to_owned()), list.filter(|_| !path), Some(quoted(value))];
    values.into_iter().flatten().map(|value| format!("{key} = {value}")).collect()
}

/// A parsed value without its place in the text.
fn plain(value: Spanned<DeValue<'_>>) -> Result<Value, Error> {
    Value::deserialize(ValueDeserializer::from(value))
}

/// A value as it is meant: a word where a list may stand is a list of one, and relative paths become absolute.
fn adapted(key: &str, value: Value, layer: &Layer<'_>) -> Value {
    let is_path = |path: &str| PATHS.iter().any(|(known, words)| *known == key && !words.contains(&path));
    match value {
        Value::String(word) if key == "methods" => Value::Array(vec![word.into()]),
        Value::String(file) if FILES.contains(&key) => Value::Array(vec![absolute(file.into(), layer)]),
        Value::Array(files) if FILES.contains(&key) => {
            Value::Array(files.into_iter().map(|file| absolute(file, layer)).collect())
        }
        Value::String(path) if is_path(&path) => absolute(path.into(), layer),
        other => other,
    }
}

/// A path from the layer's folder; anything but a path, and the empty one, stays for others to refuse.
fn absolute(path: Value, layer: &Layer<'_>) -> Value {
    match path {
        Value::String(path) if !path.is_empty() => {
            let joined = layer.folder.join(&path);
            std::path::absolute(&joined).unwrap_or(joined).display().to_string().into()
        }
        other => other,
    }
}

/// The value of a setting in a complete table.
fn leaf<'a>(table: &'a mut Table, key: &str) -> &'a mut Value {
    match key.split_once('.') {
        Some((section, last)) => &mut table[section][last],
        None => &mut table[key],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that no path is forgotten above: it would be taken from the folder of whoever runs the program.
    #[test]
    fn every_setting_that_may_be_any_word_is_a_path_but_two() {
        let takes_a_word =
            |key: &String| Layers::new().set(&format!("{key}=\"no-choice-has-this-name\""), Path::new("/folder")).is_ok();
        let mut found: Vec<String> = defaults::keys(defaults::TEXT).into_iter().filter(takes_a_word).collect();
        found.sort();
        let paths = PATHS.iter().map(|(key, _)| *key).chain(FILES).chain(["device", "name"]);
        let mut expected: Vec<&str> = paths.collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
