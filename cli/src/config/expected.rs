//! What a setting should have been, when its type is wrong.

use toml::Value;
use toml::de::Error;

use super::defaults;
use super::run_file::RunFile;
use super::suggest;

/// What the setting's type accepts, in words, from what deserialising it said.
pub(super) fn by(key: &str, error: &Error) -> String {
    let words = words(key);
    if words.is_empty() {
        return phrase(key, error.message());
    }
    let list = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let unknown = error.message().strip_prefix("unknown variant `").and_then(|rest| rest.split('`').next());
    let near = unknown.and_then(|unknown| suggest::nearest(unknown, words.iter().map(String::as_str)));
    if (key, unknown) == ("engine.weights", Some("bf16")) {
        return format!("one of {list}: plain bf16 rounds most updates away, and \"bf16-split\" keeps what it cuts off");
    }
    let some = if key == "methods" { "a list of" } else { "one of" };
    match near {
        Some(near) => format!("{some} {list}; did you mean \"{near}\"?"),
        None => format!("{some} {list}"),
    }
}

/// The words of a setting that takes only certain ones: what its type says when it is given an impossible one.
fn words(key: &str) -> Vec<String> {
    let impossible = Value::String("\u{0}".into());
    let mut table = defaults::table();
    let leaf = match key.split_once('.') {
        Some((section, last)) => &mut table[section][last],
        None => &mut table[key],
    };
    *leaf = if key == "methods" { Value::Array(vec![impossible]) } else { impossible };
    let Err(error) = table.try_into::<RunFile>() else { return Vec::new() };
    let Some((_, list)) = error.message().split_once(", expected ") else { return Vec::new() };
    if !error.message().starts_with("unknown variant") {
        return Vec::new();
    }
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn phrase(key: &str, message: &str) -> String {
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    let default = defaults::table();
    let list = defaults::lookup(&default, key).is_some_and(Value::is_array);
    match expected {
        _ if key.ends_with(".betas") => "two numbers, such as [0.9, 0.95]".into(),
        _ if key.ends_with(".digits") => "two whole numbers, such as [3, 6]".into(),
        "f64" => "a number".into(),
        "usize" | "u64" => "a whole number, 0 or more".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list of files, such as [\"a.jsonl\", \"b.jsonl\"]".into(),
        "path string" | "a string" if list => "a list of files, such as [\"a.jsonl\", \"b.jsonl\"]".into(),
        "path string" | "a string" => "a text in quotes".into(),
        "a map" => "a table of names, such as { prompt = \"question\" }".into(),
        other => other.into(),
    }
}
