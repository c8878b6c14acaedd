//! One example as it stands in a file: where, and its columns.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::{DataError, ExampleFault, FileFault};
use super::example::Text;
use crate::text::{Message, Role};

/// Where in a file an example stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// A line of a JSONL file, from 1.
    Line(usize),
    /// An element of a JSON array, from 0.
    Element(usize),
    /// A row of a Parquet file, from 0.
    Row(usize),
}

/// A file and the example in it. Prints as `train.jsonl, line 3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path as the user gave it.
    pub file: Arc<str>,
    /// The example.
    pub spot: Spot,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spot {
            Spot::Line(line) => write!(formatter, "{}, line {line}", self.file),
            Spot::Element(element) => write!(formatter, "{}, element {element} (from 0)", self.file),
            Spot::Row(row) => write!(formatter, "{}, row {row} (from 0)", self.file),
        }
    }
}

/// An example's columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) place: Place,
    pub(super) fields: Map<String, Value>,
}

impl Record {
    /// An error at this example.
    pub(super) fn fault(&self, fault: ExampleFault) -> DataError {
        DataError::Example { place: self.place.clone(), fault: Box::new(fault) }
    }

    /// Gives columns the names that formats know: `names` maps the known name to the file's.
    pub(super) fn rename(&mut self, names: &BTreeMap<String, String>) -> Result<(), DataError> {
        let mut renamed = Vec::new();
        for (known, own) in names {
            let Some(value) = self.fields.shift_remove(own) else {
                let fault = FileFault::Renamed { known: known.clone(), own: own.clone(), found: self.columns() };
                return Err(DataError::File { file: self.place.file.clone(), fault: Box::new(fault) });
            };
            renamed.push((known.clone(), value));
        }
        self.fields.extend(renamed);
        Ok(())
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.fields.contains_key(column)
    }

    pub(super) fn is_list(&self, column: &str) -> bool {
        self.fields.get(column).is_some_and(Value::is_array)
    }

    /// The columns' names, for messages.
    pub(super) fn columns(&self) -> String {
        self.fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Takes a column's value out.
    pub(super) fn take(&mut self, column: &'static str) -> Result<Value, DataError> {
        match self.fields.get_mut(column) {
            Some(Value::Null) => Err(self.fault(ExampleFault::Null { column })),
            Some(value) => Ok(value.take()),
            None => Err(self.fault(ExampleFault::MissingColumn { column, found: self.columns() })),
        }
    }

    /// Takes a column of text out.
    pub(super) fn text(&mut self, column: &'static str) -> Result<String, DataError> {
        match self.take(column)? {
            Value::String(text) => Ok(text),
            other => Err(self.fault(ExampleFault::NotText { column, found: super::error::describe(&other) })),
        }
    }

    /// A column of text that may be absent or null: empty then.
    pub(super) fn text_or_empty(&mut self, column: &'static str) -> Result<String, DataError> {
        match self.fields.get(column) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(_) => self.text(column),
        }
    }

    /// A prompt: text, or chat messages up to the one that is to be answered.
    pub(super) fn prompt(&mut self, column: &'static str) -> Result<Text, DataError> {
        let text = self.text_or_messages(column)?;
        if let Text::Chat(messages) = &text {
            self.check_prompt(column, messages)?;
        }
        Ok(text)
    }

    /// A response: text, or chat messages beginning with the assistant's.
    pub(super) fn response(&mut self, column: &'static str) -> Result<Text, DataError> {
        let text = self.text_or_messages(column)?;
        if let Text::Chat(messages) = &text {
            self.check_response(column, messages)?;
        }
        Ok(text)
    }

    /// A column of chat messages.
    pub(super) fn messages(&mut self, column: &'static str) -> Result<Vec<Message>, DataError> {
        match self.take(column)? {
            Value::Array(list) => Message::parse_all(list).map_err(|fault| self.fault(ExampleFault::Message { column, fault })),
            other => Err(self.fault(ExampleFault::NoMessages { column, found: super::error::describe(&other) })),
        }
    }

    fn text_or_messages(&mut self, column: &'static str) -> Result<Text, DataError> {
        match self.fields.get(column) {
            Some(Value::Array(_)) => self.messages(column).map(Text::Chat),
            Some(Value::String(_) | Value::Null) | None => self.text(column).map(Text::Plain),
            Some(other) => {
                let found = super::error::describe(other);
                Err(self.fault(ExampleFault::NotTextOrMessages { column, found }))
            }
        }
    }

    pub(super) fn check_prompt(&self, column: &'static str, messages: &[Message]) -> Result<(), DataError> {
        match messages.last().map(Message::role) {
            None => Err(self.fault(ExampleFault::EmptyList { column })),
            Some(Role::User | Role::Tool | Role::Function) => Ok(()),
            Some(role) => Err(self.fault(ExampleFault::PromptEnd { column, role: role.name() })),
        }
    }

    pub(super) fn check_response(&self, column: &'static str, messages: &[Message]) -> Result<(), DataError> {
        match messages.first().map(Message::role) {
            None => Err(self.fault(ExampleFault::EmptyList { column })),
            Some(Role::Assistant) => Ok(()),
            Some(role) => Err(self.fault(ExampleFault::ResponseStart { column, role: role.name() })),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A record at line 3 of `x.jsonl`.
    pub(in crate::data) fn record(fields: Value) -> Record {
        let Value::Object(fields) = fields else { panic!("a record is an object") };
        Record { place: Place { file: "x.jsonl".into(), spot: Spot::Line(3) }, fields }
    }

    #[test]
    fn columns_are_renamed_from_the_files_names() {
        let mut record = record(json!({"question": "q", "answer": "a"}));
        let names =
            BTreeMap::from([("prompt".to_owned(), "question".to_owned()), ("completion".to_owned(), "answer".to_owned())]);
        record.rename(&names).unwrap();
        assert_eq!(record.text("prompt").unwrap(), "q");
        let error = record.rename(&names).unwrap_err().to_string();
        assert_eq!(error, "x.jsonl: has no column \"answer\" to use as completion; its columns are completion, prompt");
    }

    #[test]
    fn columns_may_change_places() {
        let mut record = record(json!({"chosen": "worse", "rejected": "better"}));
        let swap = BTreeMap::from([("chosen".to_owned(), "rejected".to_owned()), ("rejected".to_owned(), "chosen".to_owned())]);
        record.rename(&swap).unwrap();
        assert_eq!((record.text("chosen").unwrap(), record.text("rejected").unwrap()), ("better".to_owned(), "worse".to_owned()));
    }

    #[test]
    fn places_count_as_editors_and_libraries_do() {
        let at = |spot| Place { file: "f".into(), spot }.to_string();
        assert_eq!(
            [at(Spot::Line(1)), at(Spot::Element(0)), at(Spot::Row(0))],
            ["f, line 1", "f, element 0 (from 0)", "f, row 0 (from 0)"]
        );
    }
}
