//! Bad data: one clear message each, naming the file, the place in it and the remedy.

use std::path::PathBuf;

use hbat_cli::data::{Codec, CodecOptions, DataError, Kind, ReadOptions, TemplateChoice, TooLong};
use hbat_cli::data::{Format, load_demonstrations, load_preferences};
use serde_json::json;

use crate::data::{Begin, Model, TEMPLATE, load};

/// Loads a file and compares the message, whose file name is taken off.
#[track_caller]
fn refused(kind: Kind, name: &str, content: impl AsRef<[u8]>, expected: &str) {
    let model = Model::new(Begin::Bare, Some(TEMPLATE));
    let file = model.file(name, content);
    let error = load(kind, file.clone(), &model.auto()).expect_err("bad data is refused");
    let message = error.strip_prefix(&file.display().to_string()).unwrap_or_else(|| panic!("no file in: {error}"));
    assert!(message.starts_with(expected), "\n   found: {message}\nexpected: {expected}");
}

#[track_caller]
fn demonstration(name: &str, content: impl AsRef<[u8]>, expected: &str) {
    refused(Kind::Demonstrations, name, content, expected);
}

#[track_caller]
fn preference(content: serde_json::Value, expected: &str) {
    refused(Kind::Preferences, "x.jsonl", content.to_string(), expected);
}

const GOOD: &str = r#"{"prompt": "q", "completion": "r"}"#;

#[test]
fn files_that_are_not_there_or_hold_nothing() {
    let model = Model::new(Begin::Bare, None);
    let error = load(Kind::Demonstrations, PathBuf::from("no/such/file.jsonl"), &model.auto()).unwrap_err();
    assert!(error.starts_with("no/such/file.jsonl: there is no such file; check the path"), "{error}");
    let folder = std::env::temp_dir();
    let error = load(Kind::Demonstrations, folder.clone(), &model.auto()).unwrap_err();
    assert_eq!(error, format!("{}: is a directory; name the files in it", folder.display()));
    demonstration("x.jsonl", "", ": is empty; it should hold one JSON object per line, a JSON array of objects, or Parquet");
    demonstration("x.jsonl", "\n \r\n", ": is empty");
    demonstration("x.parquet", "", ": is empty");
    demonstration("x.json", "[]", ": holds no examples");
    let error = load_demonstrations(&[], &ReadOptions::default(), &model.auto()).unwrap_err();
    assert_eq!(error.to_string(), "no file of demonstrations is named; give at least one path");
    let none = ReadOptions { limit: Some(0), ..ReadOptions::default() };
    let error = load_demonstrations(&[model.file("x.jsonl", GOOD)], &none, &model.auto()).unwrap_err();
    assert!(error.to_string().starts_with("the limit is 0, which leaves no examples"), "{error}");
}

#[test]
fn files_that_are_something_else() {
    demonstration("x.jsonl", b"\x7fELF\x02\x01\x01\x00\x00", ": is a binary file (byte 7 is NUL), but no Parquet");
    demonstration("x.jsonl", b"\x1f\x8b\x08", ": is compressed (gzip); unpack it first");
    demonstration("x.jsonl.zst", b"\x28\xb5\x2f\xfd", ": is compressed (zstd); unpack it first");
    demonstration("x.json", b"\xff\xfe[\0", ": is UTF-16; save it as UTF-8");
    demonstration("x.csv", "prompt,completion\na,b\n", ": is .csv, which is not read; convert it");
    demonstration("x.txt", "prompt,completion\na,b\n", ": begins with \"prompt,completion\", which is neither JSONL");
    demonstration("x.jsonl", format!("[{GOOD}]"), ": is named .jsonl but holds a JSON array; rename it to .json");
    demonstration("x.json", b"PAR1", ": is named .json but holds Parquet; rename it to .parquet");
    demonstration("x.parquet", GOOD, ": is named .parquet but holds no Parquet (it does not begin with PAR1)");
    demonstration(
        "x.json",
        format!("{{\n\"data\": [{GOOD}]\n}}"),
        ": holds one JSON object spread over several lines (its keys: data)",
    );
}

#[test]
fn files_with_mistakes_in_them() {
    demonstration(
        "x.jsonl",
        format!("{GOOD}\n{GOOD}\n{{\"prompt\": \"q"),
        ": line 3: the JSON ends in the middle; the file seems cut off",
    );
    demonstration("x.json", format!("[{GOOD},\n{GOOD}"), ": line 2: the JSON ends in the middle");
    demonstration("x.json", format!("[{GOOD}\n{GOOD}]"), ": line 2, column 1: is no valid JSON: expected `,` or `]`");
    demonstration("x.jsonl", format!("{GOOD}\n{{'prompt': 1}}"), ": line 2, column 2: is no valid JSON: key must be a string");
    demonstration("x.jsonl", format!("{GOOD}\n[1, 2]"), ": line 2 is a list of 2, but every example is an object");
    demonstration("x.json", format!("[{GOOD}, null]"), ": element 1 (from 0) is null, but every example is an object");
    demonstration("x.jsonl", b"{}\n{\"prompt\": \"\xe9\"}", ": line 2: byte 15 (0xE9) is not UTF-8");
    demonstration(
        "x.jsonl",
        r#"{"prompt": "a", "prompt": "b"}"#,
        ": line 1, column 24: is no valid JSON: the key \"prompt\" appears twice",
    );
    demonstration("x.jsonl", r#"{"prompt": NaN}"#, ": line 1, column 12: is no valid JSON: expected value");
    demonstration("x.jsonl", "{\"prompt\": \"tab\there\"}", ": line 1, column 16: is no valid JSON: control character");
}

#[test]
fn columns_that_do_not_fit() {
    let check = |line: serde_json::Value, expected: &str| demonstration("x.jsonl", line.to_string(), expected);
    check(
        json!({"promt": "q", "completion": "r"}),
        ": its columns (promt, completion) fit no format of demonstrations. Formats: prompt-completion (",
    );
    check(
        json!({"prompt": "q", "chosen": "w", "rejected": "l"}),
        ": holds preferences (format prompt-chosen-rejected), but demonstrations are needed",
    );
    check(
        json!({"prompt": "q", "completion": "r", "messages": []}),
        ": its columns (prompt, completion, messages) fit more than one format: prompt-completion (prompt, completion); \
         messages (messages); say which with demonstration_format",
    );
    check(
        json!({"prompt": ["q"], "completion": "r"}),
        ", line 1: prompt: message 0 is the text \"q\", but a message is an object",
    );
    check(
        json!({"prompt": "q", "completion": 7}),
        ", line 1: completion is the number 7, but must be text or a list of chat messages",
    );
    check(json!({"prompt": "q", "completion": null}), ", line 1: completion is null; give it a value or remove the example");
    check(
        json!({"instruction": {"en": "q"}, "output": "r"}),
        ", line 1: instruction is an object with the keys [\"en\"], but must be text",
    );
    let later = format!("{GOOD}\n\n{{\"prompt\": \"q\"}}");
    demonstration("x.jsonl", later, ", line 3: has no \"completion\" (its columns: prompt); every example needs it");
    demonstration("x.json", format!("[{GOOD}, {{\"prompt\": 1}}]"), ", element 1 (from 0): prompt is the number 1");
}

#[test]
fn messages_that_do_not_fit() {
    let check = |messages: serde_json::Value, expected: &str| {
        demonstration("x.jsonl", json!({"messages": messages}).to_string(), &format!(", line 1: {expected}"));
    };
    let (user, answer) = (json!({"role": "user", "content": "q"}), json!({"role": "assistant", "content": "r"}));
    check(json!("q"), "messages is the text \"q\", but must be a list of chat messages");
    check(json!([user, {"role": "gpt", "content": "r"}]), "messages: message 1 has the unknown role \"gpt\"; roles are system,");
    check(json!([{"from": "human", "value": "q"}]), "messages: message 0 has no role (its keys: from, value)");
    check(json!([user, {"role": "assistant"}]), "messages: message 1 (assistant) has nothing as content");
    check(json!([user, answer, user]), "messages ends with the user's message, but its last message is what is learned");
    check(json!([answer]), "messages has no message before the assistant's answer");
    check(json!([]), "messages is an empty list; it needs at least one message");
    check(json!([user, {"role": "assistant", "content": ""}]), "the response has no tokens; give it text or remove the example");
    let mixed = json!({"prompt": [user], "completion": "r"}).to_string();
    demonstration(
        "x.jsonl",
        mixed,
        ", line 1: the prompt is chat messages and the response is text; write both as text or both as chat",
    );
}

#[test]
fn preferences_that_do_not_fit() {
    let farm = |label: serde_json::Value| json!({"instruction": "q", "output_1": "a", "output_2": "b", "preference": label});
    preference(farm(json!(3)), ", line 1: preference is the number 3, but must be 1 or 2");
    preference(farm(json!(1.75)), ", line 1: preference is the number 1.75, but must be 1 or 2");
    preference(farm(json!("a")), ", line 1: preference is the text \"a\", but must be 1 or 2");
    preference(json!({"prompt": "q", "chosen": "", "rejected": "l"}), ", line 1: the chosen response has no tokens");
    preference(json!({"prompt": "q", "chosen": "w", "rejected": ""}), ", line 1: the rejected response has no tokens");
    preference(json!({"chosen": "w", "rejected": "l"}), ", line 1: chosen has no \"\\n\\nAssistant:\" (it begins \"w\")");
    let turns =
        |answer: &str, question: &str| json!([{"role": "user", "content": question}, {"role": "assistant", "content": answer}]);
    preference(
        json!({"chosen": turns("w", "1"), "rejected": turns("l", "2")}),
        ", line 1: chosen and rejected do not begin with the same",
    );
    let question = json!([{"role": "user", "content": "q"}]);
    let repeated = json!({"prompt": question, "chosen": turns("w", "q"), "rejected": turns("l", "q")});
    preference(repeated, ", line 1: chosen begins with the user's message, but a response begins with the assistant's");
    preference(
        json!({"info": {"post": "p"}, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 0}),
        ", line 1: info has no text \"subreddit\"",
    );
}

#[test]
fn examples_that_are_too_long() {
    let model = Model::new(Begin::Bare, None);
    let file = model.file("x.jsonl", format!("{GOOD}\n{{\"prompt\": \"question\", \"completion\": \"answer\"}}"));
    let with =
        |too_long, max_length| load(Kind::Demonstrations, file.clone(), &model.codec(TemplateChoice::Auto, max_length, too_long));
    let error = with(TooLong::Error, 10).unwrap_err();
    let expected = "x.jsonl, line 2: the response has 7 tokens after a prompt of 8, 15 together, but max_length is 10; raise max_length, \
                    or set too_long = \"drop\" or \"truncate\"";
    assert!(error.ends_with(expected), "{error}");
    let error = with(TooLong::Drop, 2).unwrap_err();
    assert!(error.contains("x.jsonl: no example is left: all 2 are longer than max_length = 2; raise max_length"), "{error}");
}

#[test]
fn templates_that_fail_on_the_data() {
    let check = |template: &str, expected: &str| {
        let model = Model::new(Begin::Bare, Some(template));
        let line = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}).to_string();
        let error = load(Kind::Demonstrations, model.file("x.jsonl", line), &model.auto()).unwrap_err();
        assert!(error.contains("x.jsonl, line 1: ") && error.contains(expected), "{error}");
    };
    check(
        "\n{{ raise_exception('no ' + messages[0].role) }}",
        "chat_template.jinja, line 2: the chat template fails on these messages: no user",
    );
    check("{{ messages[0].content.nonsense() }}", "chat_template.jinja, line 1: the chat template fails on these messages:");
    check(
        "{{ messages | length }}",
        "renders the prompt differently once the response follows: after \"\" the prompt goes on \"1\", the conversation \"2\"",
    );
    check("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", "the response has no tokens");
}

fn loaded(model: &Model, choice: TemplateChoice, max_length: usize) -> Result<Codec, DataError> {
    Codec::load(model.path(), CodecOptions { template: choice, max_length, too_long: TooLong::Error })
}

#[test]
fn model_directories_that_do_not_fit() {
    let model = Model::new(Begin::Bare, None);
    let error = loaded(&model, TemplateChoice::Model, 9).unwrap_err().to_string();
    assert!(error.contains(": has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)"), "{error}");
    let error = loaded(&model, TemplateChoice::Auto, 1).unwrap_err().to_string();
    assert!(error.starts_with("max_length is 1, but a prompt and a response need at least one token each"), "{error}");
    let line = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}).to_string();
    let error = load(Kind::Demonstrations, model.file("x.jsonl", line), &model.auto()).unwrap_err();
    assert!(error.contains("x.jsonl, line 1: ") && error.contains("set template = \"plain\" to join"), "{error}");
    model.file("tokenizer_config.json", "{}");
    let error = load(Kind::Demonstrations, model.file("x.jsonl", GOOD), &model.auto()).unwrap_err();
    assert!(
        error.contains("x.jsonl, line 1: ") && error.contains("names no eos_token, so a plain response has no end"),
        "{error}"
    );
    model.file("chat_template.jinja", "{% for %}");
    let error = loaded(&model, TemplateChoice::Auto, 9).unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja, line 1: the chat template has a syntax error"), "{error}");
    model.file("tokenizer.json", "{");
    let error = loaded(&model, TemplateChoice::Auto, 9).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json: is no tokenizer this program can load"), "{error}");
}

#[test]
fn named_formats_and_columns_that_do_not_fit() {
    let model = Model::new(Begin::Bare, None);
    let file = [model.file("x.jsonl", GOOD)];
    let format = ReadOptions { format: Some(Format::AlpacaFarm), ..ReadOptions::default() };
    let error = load_demonstrations(&file, &format, &model.auto()).unwrap_err().to_string();
    assert!(error.contains("x.jsonl: holds preferences (format alpaca-farm), but demonstrations are needed here"), "{error}");
    let error = load_preferences(&file, &format, &model.auto()).unwrap_err().to_string();
    assert!(error.contains("x.jsonl, line 1: has no \"output_1\" (its columns: prompt, completion)"), "{error}");
    let columns = [("prompt".to_string(), "question".to_string())].into();
    let renamed = ReadOptions { columns, ..ReadOptions::default() };
    let error = load_demonstrations(&file, &renamed, &model.auto()).unwrap_err().to_string();
    assert!(
        error.contains("x.jsonl: has no column \"question\" to use as prompt; its columns are prompt, completion"),
        "{error}"
    );
}
