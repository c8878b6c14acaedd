//! JSON text as Python's `json.dumps` writes it: chat templates print tools and arguments with it, and models saw that spelling.

use serde_json::{Number, Value};

/// The keyword arguments of `json.dumps` that templates may give.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) ascii: Ascii,
    /// Indentation of one level, for example four spaces; on one line without.
    pub(super) indent: Option<String>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) keys: Keys,
}

/// Whether characters beyond ASCII are escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ascii {
    Keep,
    Escape,
}

/// The order of an object's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    AsGiven,
    Sorted,
}

impl Layout {
    /// Python's defaults, with `ensure_ascii=False` as `transformers` sets it for templates.
    pub(super) fn new(indent: Option<String>) -> Self {
        let item_separator = if indent.is_some() { "," } else { ", " }.to_owned();
        Self { ascii: Ascii::Keep, indent, item_separator, key_separator: ": ".to_owned(), keys: Keys::AsGiven }
    }

    /// Writes a value.
    pub(super) fn write(&self, value: &Value) -> String {
        let mut text = String::new();
        self.value(&mut text, value, 0);
        text
    }

    fn value(&self, out: &mut String, value: &Value, depth: usize) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => out.push_str(&python_number(number)),
            Value::String(text) => self.string(out, text),
            Value::Array(items) => {
                self.container(out, ('[', ']'), items.iter(), depth, |out, item| self.value(out, item, depth + 1));
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                if self.keys == Keys::Sorted {
                    fields.sort_by_key(|(key, _)| key.as_str());
                }
                self.container(out, ('{', '}'), fields.into_iter(), depth, |out, (key, value)| {
                    self.string(out, key);
                    out.push_str(&self.key_separator);
                    self.value(out, value, depth + 1);
                });
            }
        }
    }

    fn container<T>(
        &self,
        out: &mut String,
        (open, close): (char, char),
        items: impl ExactSizeIterator<Item = T>,
        depth: usize,
        mut write: impl FnMut(&mut String, T),
    ) {
        out.push(open);
        let empty = items.len() == 0;
        for (position, item) in items.enumerate() {
            if position > 0 {
                out.push_str(&self.item_separator);
            }
            self.line(out, depth + 1);
            write(out, item);
        }
        if !empty {
            self.line(out, depth);
        }
        out.push(close);
    }

    fn line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    }

    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
                other if self.ascii == Ascii::Escape && !(' '..='~').contains(&other) => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                other => out.push(other),
            }
        }
        out.push('"');
    }
}

/// Integers as they are; floats as Python's `repr`: the same digits and thresholds as Rust's, but `1e+16` for `1e16`.
fn python_number(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let text = format!("{float:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected texts come from CPython's `json.dumps`.
    #[test]
    fn texts_equal_those_of_python() {
        let value = json!({"b": [1, 2.0, 1e16, 1.5e-7, true, null], "a": "é <&'\"\u{7f}\u{1}\n", "c": {}, "d": []});
        assert_eq!(
            Layout::new(None).write(&value),
            "{\"b\": [1, 2.0, 1e+16, 1.5e-07, true, null], \"a\": \"é <&'\\\"\u{7f}\\u0001\\n\", \"c\": {}, \"d\": []}"
        );
        let sorted = Layout { keys: Keys::Sorted, ascii: Ascii::Escape, ..Layout::new(None) };
        assert_eq!(sorted.write(&json!({"b": "😀", "a": "\u{7f}"})), "{\"a\": \"\\u007f\", \"b\": \"\\ud83d\\ude00\"}");
        let indented = Layout::new(Some("  ".to_owned()));
        assert_eq!(indented.write(&json!({"a": [1, 2], "c": {}})), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"c\": {}\n}");
    }
}
