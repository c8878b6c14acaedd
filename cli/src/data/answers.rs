//! Models' answers: written so that they can be read again, and set beside others' to the same prompts.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use hbat::generate::Finish;
use hbat::tokens::{Group, Sequence};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::codec::{Author, Codec, Encoded, Style};
use super::error::{DataError, FileFault};
use super::example::{Example, Kind, Preference, Text};
use super::record::{Place, Record};
use super::{Loaded, ReadOptions, records};
use crate::text::{Message, Role, excerpt};

/// A prompt and what somebody answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Where it stands.
    pub place: Place,
    /// What was asked.
    pub prompt: Text,
    /// The answer; of a preference, the chosen one.
    pub response: Text,
    /// Whether it came to its end.
    pub finish: Finish,
}

/// The column that says so, and its word for an answer that was cut off; as in OpenAI's and vLLM's answers.
const FINISH: (&str, [&str; 2]) = ("finish", ["stop", "length"]);

/// Two answers to the same prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Where the first of them stands.
    pub place: Place,
    /// What was asked.
    pub prompt: Text,
    /// The answers, of the prompt's kind.
    pub answers: [Text; 2],
    /// Whether they came to their ends.
    pub finish: [Finish; 2],
}

/// An answer as a record in the format in which its prompt can be read again.
pub fn written(prompt: &Text, answer: &str, finish: Finish) -> Map<String, Value> {
    let mut value = match prompt {
        Text::Nothing => json!({"prompt": "", "completion": answer}),
        Text::Plain(prompt) => json!({"prompt": prompt, "completion": answer}),
        Text::Post(post) => {
            json!({"subreddit": post.subreddit, "title": post.title, "post": post.post, "summary": answer})
        }
        Text::Chat(messages) => {
            let messages: Vec<_> = messages.iter().map(|message| message.fields()).collect();
            json!({"prompt": messages, "completion": [{"role": "assistant", "content": answer}]})
        }
    };
    let (column, [stop, length]) = FINISH;
    value[column] = if finish == Finish::Eos { stop.into() } else { length.into() };
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Reads the answers of a file of examples.
///
/// # Errors
/// As [`super::load_demonstrations`].
pub fn load_answers(path: &Path, style: Style, options: &ReadOptions) -> Result<Vec<Answer>, DataError> {
    let (format, records) = records(&Kind::ANSWERED, path, options, options.limit.unwrap_or(usize::MAX))?;
    let answer = |mut record: Record| {
        let place = record.place.clone();
        let (column, [_, length]) = FINISH;
        let finish = if record.fields.get(column).is_some_and(|word| word == length) { Finish::Length } else { Finish::Eos };
        let (prompt, response) = match format.example(&mut record, style)? {
            Example::Demonstration(demonstration) => (demonstration.prompt, demonstration.response),
            Example::Preference(preference) => (preference.prompt, preference.chosen),
            Example::Prompt(_) => unreachable!("only what is answered was read"),
        };
        Ok(Answer { place, prompt, response, finish })
    };
    records.into_iter().map(answer).collect()
}

impl Comparison {
    /// Sets every answer beside another to the same prompt; where a prompt was asked more than once, the first beside the first. Others that are left
    /// over are no error.
    ///
    /// # Errors
    /// If one of the answers has no other.
    pub fn pair(answers: Vec<Answer>, others: Vec<Answer>) -> Result<Vec<Self>, DataError> {
        let file = others.first().map_or_else(|| "".into(), |other| other.place.file.clone());
        let mut by_prompt: HashMap<String, VecDeque<Answer>> = HashMap::new();
        for other in others {
            by_prompt.entry(other.prompt.readable()).or_default().push_back(other);
        }
        let pair = |Answer { place, prompt, response, finish }: Answer| {
            let asked = prompt.readable();
            match by_prompt.get_mut(&asked).and_then(VecDeque::pop_front) {
                Some(other) => {
                    let answers = [response, other.response].map(|answer| like(&prompt, answer));
                    Ok(Self { place, prompt, answers, finish: [finish, other.finish] })
                }
                None => {
                    let fault = FileFault::NoCounterpart { place, prompt: excerpt(&asked) };
                    Err(DataError::File { file: file.clone(), fault: Box::new(fault) })
                }
            }
        };
        answers.into_iter().map(pair).collect()
    }
}

/// An answer as text or as a message, as its prompt is: models with and without a chat template answer the same typed prompts.
fn like(prompt: &Text, answer: Text) -> Text {
    match (prompt, &answer) {
        (Text::Chat(_), Text::Plain(text)) => Text::Chat(vec![Message::new(Role::Assistant, text)]),
        (Text::Plain(_) | Text::Post(_) | Text::Nothing, Text::Chat(_)) => Text::Plain(answer.readable()),
        _ => answer,
    }
}

/// Puts comparisons into tokens: groups of two sequences, in which the first answer stands as the chosen one. Answers that were cut off
/// have no end.
///
/// # Errors
/// At the first that cannot be put into tokens, or if all are too long.
pub fn encode_comparisons(comparisons: &[Comparison], codec: &Codec) -> Result<Loaded, DataError> {
    let end = codec.tokenizer().end()?;
    let encode = |(index, Comparison { place, prompt, answers: [chosen, rejected], finish }): (usize, &Comparison)| {
        let pair = Preference { prompt: prompt.clone(), chosen: chosen.clone(), rejected: rejected.clone() };
        let encoded = codec.example(index, &Example::Preference(pair), Author::Model);
        let mut encoded = encoded.map_err(|fault| DataError::Example { place: place.clone(), fault: Box::new(fault) })?;
        if let Some(Group { sequences, .. }) = &mut encoded.group {
            let cut = sequences.iter_mut().zip(finish).filter(|(_, finish)| **finish == Finish::Length);
            cut.for_each(|(sequence, _)| without_end(sequence, end));
        }
        Ok(encoded)
    };
    let encoded: Vec<Result<Encoded, DataError>> = comparisons.par_iter().enumerate().map(encode).collect();
    Loaded::of(encoded.into_iter().collect::<Result<_, _>>()?, codec.max_length(), "the comparisons".to_owned())
}

/// Takes the end of a response away, and what a template puts behind it.
fn without_end(sequence: &mut Sequence, end: u32) {
    let Some(place) = sequence.response().iter().rposition(|token| *token == end) else { return };
    if let Ok(cut) = Sequence::new(sequence.prompt().to_vec(), &sequence.response()[..place]) {
        *sequence = cut;
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Spot;
    use super::super::record::tests::record;
    use super::*;
    use crate::data::{Format, Post};

    fn answer(prompt: &str, response: &str) -> Answer {
        let place = Place { file: "b.jsonl".into(), spot: Spot::Line(1) };
        Answer { place, prompt: Text::Plain(prompt.into()), response: Text::Plain(response.into()), finish: Finish::Eos }
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        let post = Post { subreddit: "tifu".into(), title: "T".into(), post: "P".into() };
        let prompts = [
            (Text::Plain("q ".into()), Format::PromptCompletion),
            (Text::Chat(vec![Message::new(Role::System, "s"), Message::new(Role::User, "q")]), Format::PromptCompletion),
            (Text::Post(post), Format::Tldr),
        ];
        for (prompt, format) in prompts {
            let mut record = record(Value::Object(written(&prompt, " an answer", Finish::Length)));
            assert_eq!(Format::recognise(&Kind::ALL, &record), Ok(format));
            let example = format.example(&mut record, Style::Chat).unwrap();
            assert_eq!(example.prompt(), &prompt);
            assert_eq!(example.responses()[0].1.readable(), " an answer");
        }
    }

    #[test]
    fn answers_meet_others_to_the_same_prompt() {
        let others = vec![answer("b", "3"), answer("a", "1"), answer("c", "9"), answer("a", "2")];
        let pairs = Comparison::pair(vec![answer("a", "x"), answer("b", "y"), answer("a", "z")], others).unwrap();
        let texts: Vec<[String; 2]> = pairs.iter().map(|pair| pair.answers.each_ref().map(Text::readable)).collect();
        assert_eq!(texts, [["x", "1"], ["y", "3"], ["z", "2"]].map(|pair| pair.map(str::to_owned)));
    }

    #[test]
    fn answers_take_the_kind_of_their_prompt() {
        let chat = |role, text| Text::Chat(vec![Message::new(role, text)]);
        let asked = Answer { prompt: chat(Role::User, "q"), response: chat(Role::Assistant, "x"), ..answer("q", "x") };
        for (ours, theirs) in [(asked.clone(), answer("q", "y")), (answer("q", "x"), asked)] {
            let pair = Comparison::pair(vec![ours], vec![theirs]).unwrap().remove(0);
            let kinds = pair.answers.each_ref().map(Text::kind);
            assert_eq!(kinds, [pair.prompt.kind(); 2]);
        }
    }

    #[test]
    fn an_answer_without_another_is_named() {
        let error = Comparison::pair(vec![answer("a", "x"), answer("a", "y")], vec![answer("a", "1")]).unwrap_err().to_string();
        assert!(error.starts_with("b.jsonl: has no answer to the prompt of b.jsonl, line 1 (\"a\")"), "{error}");
    }
}
