//! The defaults: one commented TOML text that is parsed for its values, printed for its comments, and filled in with a run's
//! values to document the run.

use toml::{Table, Value};

use super::run_file::RunFile;

/// Every setting at its default, one per line, explained by the comment above it.
pub const TEXT: &str = include_str!("../../recipes/defaults.toml");

/// Settings that are tables of names chosen by the user.
pub(super) const MAPS: [&str; 2] = ["data.demonstration_columns", "data.preference_columns"];

/// A line of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// A comment or an empty line.
    Comment(&'a str),
    /// The name in a section's header.
    Section(&'a str),
    /// A key and its value.
    Setting(&'a str, &'a str),
}

/// Splits a text whose settings stand on one line each into its lines.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().map(|line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Line::Section(name)
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            Line::Setting(key, value)
        } else {
            Line::Comment(line)
        }
    })
}

/// The defaults as a table: also the list of all keys that exist.
pub(super) fn table() -> Table {
    TEXT.parse().expect("the embedded defaults are TOML")
}

/// The defaults as a run file.
pub(super) fn run_file() -> RunFile {
    table().try_into().expect("the embedded defaults are a complete run file")
}

/// The value at a path such as `sft.learning_rate`.
pub(super) fn lookup<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    match (table.get(first)?, rest) {
        (value, None) => Some(value),
        (Value::Table(inner), Some(rest)) => lookup(inner, rest),
        _ => None,
    }
}

/// The paths of a text's settings, in order.
pub fn keys(text: &str) -> Vec<String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in lines(text) {
        match line {
            Line::Section(name) => section = name,
            Line::Setting(key, _) => keys.push(join(section, key)),
            Line::Comment(_) => {}
        }
    }
    keys
}

/// `section.key`, or the key alone at the top.
pub fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The text with other values: a complete run file with every setting explained.
pub(super) fn filled(table: &Table) -> String {
    let mut section = "";
    let mut text = String::new();
    for line in lines(TEXT).skip_while(|line| *line != Line::Comment("")) {
        match line {
            Line::Comment(comment) => text.push_str(comment),
            Line::Section(name) => {
                section = name;
                text.push_str(&format!("[{name}]"));
            }
            Line::Setting(key, default) => {
                let value = lookup(table, &join(section, key)).map_or_else(|| default.to_owned(), written);
                text.push_str(&format!("{key} = {value}"));
            }
        }
        text.push('\n');
    }
    text.trim_start().to_owned()
}

/// A value as TOML on one line, very small and large numbers with an exponent.
pub(super) fn written(value: &Value) -> String {
    match value {
        Value::Float(number) if *number != 0.0 && number.is_finite() && !(1e-3..1e6).contains(&number.abs()) => {
            format!("{number:e}")
        }
        Value::Array(values) => format!("[{}]", values.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_papers_where_the_paper_has_any() {
        let run = run_file();
        assert_eq!((run.sft.learning_rate, run.sft.batch_size, run.sft.epochs), (1e-5, 64, 3));
        let dpo = run.dpo.training;
        assert_eq!((dpo.learning_rate, dpo.batch_size, dpo.epochs, run.dpo.beta), (1e-6, 64, 2, 0.1));
        let reward = run.reward.training;
        assert_eq!((reward.learning_rate, reward.batch_size, reward.epochs), (1e-5, 64, 2));
        assert_eq!((run.schedule.subsets, run.consolidation.f_max, run.consolidation.lambda), (2, 100.0, 1.0));
        assert_eq!(run.data.max_length, 1024);
    }

    #[test]
    fn every_key_stands_on_its_own_line() {
        let table = table();
        let keys = keys(TEXT);
        assert!(keys.iter().all(|key| lookup(&table, key).is_some()));
        let leaves = |table: &Table| table.values().map(|v| v.as_table().map_or(1, Table::len)).sum::<usize>();
        assert_eq!(leaves(&table), keys.len());
    }

    #[test]
    fn numbers_are_written_shortly_and_read_back() {
        for (value, text) in
            [(1e-5, "1e-5"), (0.1, "0.1"), (100.0, "100.0"), (0.0, "0.0"), (1.5e20, "1.5e20"), (f64::INFINITY, "inf")]
        {
            assert_eq!(written(&Value::Float(value)), text);
            let table: Table = format!("x = {text}").parse().unwrap();
            assert_eq!(table["x"], Value::Float(value));
        }
    }
}
