//! JSON Lines and JSON arrays.

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::error::Category;

use super::super::error::{FileFault, describe};
use super::super::record::{Place, Record, Spot};
use super::strict::Strict;

/// One object per line. Lines end at `\n` or `\r\n` and nowhere else: JSON strings may contain U+2028 and its like. Blank lines are
/// passed over, and the numbering counts them.
pub(super) fn lines(text: &str, file: &Arc<str>, limit: usize) -> Result<Vec<Record>, FileFault> {
    let mut records = Vec::new();
    for (line, content) in text.split('\n').enumerate().filter(|(_, content)| !is_blank(content)) {
        if records.len() == limit {
            break;
        }
        let Strict(value) = serde_json::from_str(content).map_err(|error| spread(text, line, &error))?;
        let fields = object(value, || format!("line {}", line + 1))?;
        records.push(Record { place: Place { file: file.clone(), spot: Spot::Line(line + 1) }, fields });
    }
    Ok(records)
}

/// An array of objects.
pub(super) fn array(text: &str, file: &Arc<str>, limit: usize) -> Result<Vec<Record>, FileFault> {
    let values: Vec<Strict> = serde_json::from_str(text).map_err(|error| syntax(&error, error.line()))?;
    let place = |element| Place { file: file.clone(), spot: Spot::Element(element) };
    let records = values.into_iter().take(limit).enumerate().map(|(element, Strict(value))| {
        let fields = object(value, || format!("element {element} (from 0)"))?;
        Ok(Record { place: place(element), fields })
    });
    records.collect()
}

/// Whether a line is an object.
pub(super) fn is_object(line: &str) -> bool {
    serde_json::from_str::<HashMap<String, IgnoredAny>>(line).is_ok()
}

/// Whether a text is an array of objects.
pub(super) fn is_array(text: &str) -> bool {
    serde_json::from_str::<Vec<HashMap<String, IgnoredAny>>>(text).is_ok()
}

/// Only what JSON itself calls white space: other blanks on a line of their own are a mistake worth hearing about.
fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

fn object(value: Value, at: impl FnOnce() -> String) -> Result<serde_json::Map<String, Value>, FileFault> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(FileFault::NoObject { at: at(), found: describe(&other) }),
    }
}

/// An error in a line (from 0); a first line that only opens an object means that the object goes on below.
fn spread(text: &str, line: usize, error: &serde_json::Error) -> FileFault {
    if error.classify() == Category::Eof
        && let Ok(Strict(Value::Object(fields))) = serde_json::from_str(text)
    {
        let keys = fields.keys().take(4).map(String::as_str).collect::<Vec<_>>().join(", ");
        return FileFault::OneObject { keys: format!(" (its keys: {keys})") };
    }
    syntax(error, line + 1)
}

fn syntax(error: &serde_json::Error, line: usize) -> FileFault {
    if error.classify() == Category::Eof {
        return FileFault::CutOff { line };
    }
    // The parser appends its own position, counted within the line.
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned();
    FileFault::Syntax { line, column: error.column(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spots(text: &str) -> Vec<Spot> {
        lines(text, &"f".into(), usize::MAX).unwrap().iter().map(|record| record.place.spot).collect()
    }

    #[test]
    fn only_newlines_end_lines() {
        assert_eq!(spots("{\"a\": \"x\u{2028}\u{2029}\u{85}y\"}\n{}\n"), [Spot::Line(1), Spot::Line(2)]);
        let records = lines("{\"a\": \"x\u{2028}y\"}", &"f".into(), 9).unwrap();
        assert_eq!(records[0].fields["a"], "x\u{2028}y");
    }

    #[test]
    fn blank_lines_and_carriage_returns_are_passed_over() {
        assert_eq!(spots("{}\r\n\r\n{}\r\n  \t\n\n\n"), [Spot::Line(1), Spot::Line(3)]);
        assert_eq!(lines("{\"a\": \"x\\r\\n\"}\r\n", &"f".into(), 9).unwrap()[0].fields["a"], "x\r\n");
    }

    #[test]
    fn the_limit_stops_before_later_mistakes() {
        assert_eq!(lines("{}\n{}\n{oops", &"f".into(), 2).unwrap().len(), 2);
    }

    #[test]
    fn very_long_lines_are_lines() {
        let text = format!("{{\"a\": \"{}\"}}\n{{}}", "x".repeat(5_000_000));
        assert_eq!(spots(&text), [Spot::Line(1), Spot::Line(2)]);
    }

    #[test]
    fn mistakes_are_found_where_they_are() {
        let check = |text: &str, expected: &str| {
            let fault = lines(text, &"f".into(), 9).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{text}: {fault}");
        };
        check("{}\n\n{\"a\": }\n", "line 3, column 7: is no valid JSON: expected value");
        check("{}\n{\"a\": \"x", "line 2: the JSON ends in the middle");
        check("{}\n[1]\n", "line 2 is a list of 1, but every example is an object");
        check("{} {}\n", "line 1, column 4: is no valid JSON: trailing characters");
        check("{\"a\": \"\\ud800\"}", "line 1, column 14: is no valid JSON: unexpected end of hex escape");
        check(
            "{\n \"data\": [],\n \"version\": 1\n}",
            "holds one JSON object spread over several lines (its keys: data, version)",
        );
        check("{\"a\": 1, \"a\": 2}", "line 1, column 12: is no valid JSON: the key \"a\" appears twice");
    }
}
