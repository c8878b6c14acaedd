//! Stanford Alpaca's instructions and AlpacaFarm's preferences on them.

use super::super::codec::Style;
use super::super::error::{DataError, ExampleFault, describe};
use super::super::example::{Demonstration, Preference, Text};
use super::super::record::Record;
use crate::text::{Message, Role};

/// `instruction`, `input`, `output`.
pub(super) fn demonstration(record: &mut Record, style: Style) -> Result<Demonstration, DataError> {
    Ok(Demonstration { prompt: prompt(record, style)?, response: answer(record.text("output")?, style) })
}

/// `instruction`, `input`, `output_1`, `output_2`, and which of them is better.
pub(super) fn preference(record: &mut Record, style: Style) -> Result<Preference, DataError> {
    let first = record.text("output_1")?;
    let second = record.text("output_2")?;
    let (chosen, rejected) = match label(record, "preference", [1, 2])? {
        1 => (first, second),
        _ => (second, first),
    };
    Ok(Preference { prompt: prompt(record, style)?, chosen: answer(chosen, style), rejected: answer(rejected, style) })
}

/// A number that must be one of two. Whole numbers written as decimals count: tables with gaps turn integers into them.
pub(super) fn label(record: &mut Record, column: &'static str, [first, second]: [i64; 2]) -> Result<i64, DataError> {
    let value = record.take(column)?;
    let matching = [first, second].into_iter().find(|label| value.as_f64() == Some(*label as f64));
    matching.ok_or_else(|| record.fault(ExampleFault::Label { column, found: describe(&value), first, second }))
}

fn prompt(record: &mut Record, style: Style) -> Result<Text, DataError> {
    let (instruction, input) = (record.text("instruction")?, record.text_or_empty("input")?);
    Ok(match (style, input.is_empty()) {
        (Style::Chat, true) => Text::Chat(vec![Message::new(Role::User, &instruction)]),
        (Style::Chat, false) => Text::Chat(vec![Message::new(Role::User, &format!("{instruction}\n\n{input}"))]),
        (Style::Plain, true) => Text::Plain(format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Response:"
        )),
        (Style::Plain, false) => Text::Plain(format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response \
             that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
        )),
    })
}

fn answer(output: String, style: Style) -> Text {
    match style {
        Style::Chat => Text::Chat(vec![Message::new(Role::Assistant, &output)]),
        Style::Plain => Text::Plain(output),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::record::tests::record;
    use super::*;

    #[test]
    fn plain_prompts_are_alpacas() {
        let with =
            demonstration(&mut record(json!({"instruction": "Add.", "input": "1 2", "output": "3"})), Style::Plain).unwrap();
        let Text::Plain(prompt) = with.prompt else { panic!() };
        assert!(prompt.starts_with("Below is an instruction that describes a task, paired with an input"), "{prompt}");
        assert!(prompt.ends_with("the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:"), "{prompt}");
        let without =
            demonstration(&mut record(json!({"instruction": "Sing.", "input": null, "output": "la"})), Style::Plain).unwrap();
        let Text::Plain(prompt) = without.prompt else { panic!() };
        assert!(prompt.starts_with("Below is an instruction that describes a task. Write a response that"), "{prompt}");
        assert!(prompt.ends_with("the request.\n\n### Instruction:\nSing.\n\n### Response:"), "{prompt}");
        assert_eq!(without.response, Text::Plain("la".into()));
    }

    #[test]
    fn with_a_template_the_instruction_is_a_message() {
        let fields = json!({"instruction": "Add.", "input": "1 2", "output": "3"});
        let example = demonstration(&mut record(fields), Style::Chat).unwrap();
        assert_eq!(example.prompt, Text::Chat(vec![Message::new(Role::User, "Add.\n\n1 2")]));
        assert_eq!(example.response, Text::Chat(vec![Message::new(Role::Assistant, "3")]));
    }

    fn preferred(label: Value) -> Result<Text, String> {
        let fields = json!({"instruction": "i", "output_1": "one", "output_2": "two", "preference": label});
        preference(&mut record(fields), Style::Plain).map(|example| example.chosen).map_err(|error| error.to_string())
    }

    #[test]
    fn the_preference_names_the_better_output() {
        assert_eq!(preferred(json!(1)).unwrap(), Text::Plain("one".into()));
        assert_eq!(preferred(json!(2)).unwrap(), Text::Plain("two".into()));
        assert_eq!(preferred(json!(2.0)).unwrap(), Text::Plain("two".into()));
        for (wrong, found) in [(json!(0), "the number 0"), (json!(1.5), "the number 1.5"), (json!("1"), "the text \"1\"")] {
            let expected =
                format!("x.jsonl, line 3: preference is {found}, but must be 1 or 2: which of the two responses is better");
            assert_eq!(preferred(wrong).unwrap_err(), expected);
        }
    }
}
