//! Anthropic's HH-RLHF: two transcripts that part at the assistant's last turn.

use super::super::error::{DataError, ExampleFault};
use super::super::example::{Preference, Text};
use super::super::record::Record;
use crate::text::{excerpt, tail};

/// What begins the assistant's turns; the prompt ends with the last one.
const TURN: &str = "\n\nAssistant:";

/// `chosen`, `rejected`.
pub(super) fn preference(record: &mut Record) -> Result<Preference, DataError> {
    let (prompt, chosen) = split(record, "chosen")?;
    let (other, rejected) = split(record, "rejected")?;
    if prompt != other {
        let fault = ExampleFault::DifferentPrompts { chosen: ending(&prompt), rejected: ending(&other) };
        return Err(record.fault(fault));
    }
    Ok(Preference { prompt: Text::Plain(prompt), chosen: Text::Plain(chosen), rejected: Text::Plain(rejected) })
}

/// The end of a prompt without the turn that both share.
fn ending(prompt: &str) -> String {
    tail(prompt.strip_suffix(TURN).unwrap_or(prompt))
}

fn split(record: &mut Record, column: &'static str) -> Result<(String, String), DataError> {
    let transcript = record.text(column)?;
    let Some(start) = transcript.rfind(TURN) else {
        return Err(record.fault(ExampleFault::NoTurn { column, start: excerpt(&transcript) }));
    };
    let (prompt, response) = transcript.split_at(start + TURN.len());
    Ok((prompt.to_owned(), response.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::record::tests::record;
    use super::*;

    fn check(chosen: &str, rejected: &str) -> Result<Preference, String> {
        preference(&mut record(json!({"chosen": chosen, "rejected": rejected}))).map_err(|error| error.to_string())
    }

    #[test]
    fn the_prompt_ends_at_the_last_turn() {
        let prompt = "\n\nHuman: hi\n\nAssistant: ho\n\nHuman: and?\n\nAssistant:";
        let example = check(&format!("{prompt} yes"), &format!("{prompt} no\n")).unwrap();
        let plain = |text: &str| Text::Plain(text.to_owned());
        assert_eq!(example, Preference { prompt: plain(prompt), chosen: plain(" yes"), rejected: plain(" no\n") });
    }

    #[test]
    fn other_texts_are_refused() {
        let good = "\n\nHuman: hi\n\nAssistant: ho";
        assert!(check("just text", good).unwrap_err().contains("chosen has no \"\\n\\nAssistant:\" (it begins \"just text\")"));
        let error = check(good, "\n\nHuman: hey\n\nAssistant: ho").unwrap_err();
        assert!(error.contains("chosen there: \"\\n\\nHuman: hi\", rejected: \"\\n\\nHuman: hey\""), "{error}");
    }
}
