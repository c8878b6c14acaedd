//! Whole conversations: the last assistant turns are the response.

use super::super::error::{DataError, ExampleFault};
use super::super::example::{Demonstration, Preference, Text};
use super::super::record::Record;
use crate::text::{Message, Role};

/// `messages`: the assistant's messages at the end are the response, what comes before is the prompt.
pub(super) fn messages(record: &mut Record) -> Result<Demonstration, DataError> {
    let mut prompt = record.messages("messages")?;
    let answers = prompt.iter().rev().take_while(|message| message.role() == Role::Assistant).count();
    match prompt.last().map(Message::role) {
        None => return Err(record.fault(ExampleFault::EmptyList { column: "messages" })),
        Some(role) if answers == 0 => return Err(record.fault(ExampleFault::NoAnswer { column: "messages", role: role.name() })),
        Some(_) if answers == prompt.len() => return Err(record.fault(ExampleFault::NoQuestion { column: "messages" })),
        Some(_) => {}
    }
    let response = prompt.split_off(prompt.len() - answers);
    record.check_prompt("the part of messages before the answer", &prompt)?;
    Ok(Demonstration { prompt: Text::Chat(prompt), response: Text::Chat(response) })
}

/// `chosen` and `rejected` as conversations: the messages they share at the beginning are the prompt, up to the last question, so that
/// each keeps an answer even where both are the same.
pub(super) fn chosen_rejected(record: &mut Record) -> Result<Preference, DataError> {
    let (mut chosen, mut rejected) = (record.messages("chosen")?, record.messages("rejected")?);
    let shared = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
    let asks = |message: &Message| matches!(message.role(), Role::User | Role::Tool | Role::Function);
    let Some(question) = chosen[..shared].iter().rposition(asks) else {
        return Err(record.fault(ExampleFault::NoCommonPrompt));
    };
    let prompt = chosen[..=question].to_vec();
    chosen.drain(..=question);
    rejected.drain(..=question);
    record.check_response("chosen after the common prompt", &chosen)?;
    record.check_response("rejected after the common prompt", &rejected)?;
    Ok(Preference { prompt: Text::Chat(prompt), chosen: Text::Chat(chosen), rejected: Text::Chat(rejected) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::record::tests::record;
    use super::*;

    /// A conversation in short: `u:` the user, `a:` the assistant, `s:` the system.
    fn turns(short: &[&str]) -> Value {
        let role = |turn: &str| match &turn[..1] {
            "u" => "user",
            "a" => "assistant",
            _ => "system",
        };
        short.iter().map(|turn| json!({"role": role(turn), "content": turn[2..]})).collect()
    }

    fn said(text: &Text) -> Vec<&str> {
        let Text::Chat(messages) = text else { panic!("no chat: {text:?}") };
        messages.iter().filter_map(Message::text).collect()
    }

    #[test]
    fn the_last_answers_are_the_response() {
        let example = messages(&mut record(json!({"messages": turns(&["s:s", "u:1", "a:2", "u:3", "a:4", "a:5"])}))).unwrap();
        assert_eq!((said(&example.prompt), said(&example.response)), (vec!["s", "1", "2", "3"], vec!["4", "5"]));
    }

    #[test]
    fn conversations_without_question_or_answer_are_refused() {
        let check = |short: &[&str], expected: &str| {
            let error = messages(&mut record(json!({"messages": turns(short)}))).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[], "messages is an empty list");
        check(&["u:1", "a:2", "u:3"], "messages ends with the user's message, but its last message is what is learned");
        check(&["a:1"], "messages has no message before the assistant's answer");
        check(&["s:1", "a:2"], "before the answer ends with the system's message");
    }

    fn preference(chosen: &[&str], rejected: &[&str]) -> Result<Preference, String> {
        let fields = json!({"chosen": turns(chosen), "rejected": turns(rejected)});
        chosen_rejected(&mut record(fields)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_both_share_is_the_prompt() {
        let example = preference(&["u:1", "a:2", "u:3", "a:4"], &["u:1", "a:2", "u:3", "a:5"]).unwrap();
        assert_eq!(
            (said(&example.prompt), said(&example.chosen), said(&example.rejected)),
            (vec!["1", "2", "3"], vec!["4"], vec!["5"])
        );
    }

    #[test]
    fn same_answers_stay_answers() {
        let example = preference(&["u:1", "a:2"], &["u:1", "a:2"]).unwrap();
        assert_eq!((said(&example.prompt), said(&example.chosen), said(&example.rejected)), (vec!["1"], vec!["2"], vec!["2"]));
    }

    #[test]
    fn conversations_with_different_beginnings_are_refused() {
        assert!(preference(&["u:1", "a:2"], &["u:x", "a:2"]).unwrap_err().contains("do not begin with the same messages"));
        let error = preference(&["u:1"], &["u:1", "a:2"]).unwrap_err();
        assert!(error.contains("chosen after the common prompt is an empty list"), "{error}");
    }
}
