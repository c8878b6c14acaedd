//! A prompt and what follows it in columns of their own: `completion`, or `chosen` and `rejected`.

use super::super::error::DataError;
use super::super::example::{Demonstration, Preference};
use super::super::record::Record;
use super::conversation;

/// `prompt`, `completion`.
pub(super) fn completion(record: &mut Record) -> Result<Demonstration, DataError> {
    Ok(Demonstration { prompt: record.prompt("prompt")?, response: record.response("completion")? })
}

/// `prompt`, `chosen`, `rejected`. Conversations in `chosen` and `rejected` hold their prompt themselves unless `prompt` is
/// messages too: several public data sets repeat the question as text in `prompt`.
pub(super) fn chosen_rejected(record: &mut Record) -> Result<Preference, DataError> {
    if record.is_list("chosen") && record.is_list("rejected") && !record.is_list("prompt") {
        return conversation::chosen_rejected(record);
    }
    Ok(Preference {
        prompt: record.prompt("prompt")?,
        chosen: record.response("chosen")?,
        rejected: record.response("rejected")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::example::Text;
    use super::super::super::record::tests::record;
    use super::*;
    use crate::text::{Message, Role};

    #[test]
    fn texts_stay_texts_and_messages_messages() {
        let example = completion(&mut record(json!({"prompt": "q ", "completion": " a"}))).unwrap();
        assert_eq!(example, Demonstration { prompt: Text::Plain("q ".into()), response: Text::Plain(" a".into()) });
        let turns = json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]});
        let example = completion(&mut record(turns)).unwrap();
        assert_eq!(example.prompt, Text::Chat(vec![Message::new(Role::User, "q")]));
        assert_eq!(example.response, Text::Chat(vec![Message::new(Role::Assistant, "a")]));
    }

    #[test]
    fn a_prompt_of_text_gives_way_to_whole_conversations() {
        let turns = |answer: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
        let example = chosen_rejected(&mut record(json!({"prompt": "q", "chosen": turns("a"), "rejected": turns("b")}))).unwrap();
        assert_eq!(example.prompt, Text::Chat(vec![Message::new(Role::User, "q")]));
        assert_eq!(example.rejected, Text::Chat(vec![Message::new(Role::Assistant, "b")]));
    }

    #[test]
    fn turns_are_checked() {
        let check = |prompt, answer, expected: &str| {
            let fields = json!({"prompt": prompt, "completion": answer});
            let error = completion(&mut record(fields)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("x.jsonl, line 3: {expected}")), "{error}");
        };
        let (user, assistant) = (json!({"role": "user", "content": "q"}), json!({"role": "assistant", "content": "a"}));
        check(json!([]), json!("a"), "prompt is an empty list");
        check(json!([user, assistant]), json!("a"), "prompt ends with the assistant's message");
        check(json!([user]), json!([user, assistant]), "completion begins with the user's message");
        check(json!(7), json!("a"), "prompt is the number 7, but must be text or a list of chat messages");
        check(json!(["q"]), json!("a"), "prompt: message 0 is the text \"q\", but a message is an object");
        check(json!([{"role": "usr", "content": "q"}]), json!("a"), "prompt: message 0 has the unknown role \"usr\"");
        check(json!(null), json!("a"), "prompt is null");
    }
}
