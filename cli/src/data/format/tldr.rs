//! Reddit TL;DR: posts with the author's summary, and comparisons of two summaries.

use serde_json::Value;

use super::super::error::{DataError, ExampleFault, describe};
use super::super::example::{Demonstration, Preference, Text};
use super::super::record::Record;
use super::alpaca::label;

/// Most tokens of a prompt; longer posts are shortened.
pub const PROMPT: usize = 512;

/// Most tokens of a summary, the end-of-sequence token not counted.
pub const SUMMARY: usize = 48;

/// A post to be summarised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Where it was posted, without `r/`.
    pub subreddit: String,
    /// Its title.
    pub title: String,
    /// Its text.
    pub post: String,
}

impl Post {
    /// The prompt with the whole post.
    pub fn prompt(&self) -> String {
        self.render(&self.post)
    }

    fn render(&self, post: &str) -> String {
        format!("SUBREDDIT: r/{}\n\nTITLE: {}\n\nPOST: {post}\n\nTL;DR:", self.subreddit, self.title)
    }

    /// The prompt with as much of the post as `fits`: it is cut at its last newline until the prompt is short enough, and where no newline is
    /// left, at its last space.
    ///
    /// # Errors
    /// If `fits` fails.
    pub fn shorten<E>(&self, mut fits: impl FnMut(&str) -> Result<bool, E>) -> Result<String, E> {
        let mut post = self.post.as_str();
        loop {
            let prompt = self.render(post);
            if post.is_empty() || fits(&prompt)? {
                return Ok(prompt);
            }
            post = &post[..post.rfind('\n').or_else(|| post.rfind(' ')).unwrap_or(0)];
        }
    }
}

/// `subreddit`, `title`, `post`, `summary`.
pub(super) fn demonstration(record: &mut Record) -> Result<Demonstration, DataError> {
    let post = Post { subreddit: record.text("subreddit")?, title: record.text("title")?, post: record.text("post")? };
    Ok(Demonstration { prompt: Text::Post(post), response: summary(&record.text("summary")?) })
}

/// `info` with the post, `summaries` with two texts, `choice` with the place of the better one.
pub(super) fn preference(record: &mut Record) -> Result<Preference, DataError> {
    let info = record.take("info")?;
    let field = |field: &'static str| match info.get(field).and_then(Value::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => Err(record.fault(ExampleFault::Info { field, found: describe(&info) })),
    };
    let post = Post { subreddit: field("subreddit")?, title: field("title")?, post: field("post")? };
    let [first, second] = summaries(record)?;
    let (chosen, rejected) = if label(record, "choice", [0, 1])? == 0 { (first, second) } else { (second, first) };
    Ok(Preference { prompt: Text::Post(post), chosen: summary(&chosen), rejected: summary(&rejected) })
}

fn summaries(record: &mut Record) -> Result<[String; 2], DataError> {
    let value = record.take("summaries")?;
    let text = |place: usize| value.get(place).and_then(|summary| summary.get("text")).and_then(Value::as_str).map(str::to_owned);
    match (value.as_array().map(Vec::len), text(0), text(1)) {
        (Some(2), Some(first), Some(second)) => Ok([first, second]),
        (Some(2), _, _) => Err(record.fault(ExampleFault::Summaries { found: "one of them has no text".to_owned() })),
        _ => Err(record.fault(ExampleFault::Summaries { found: format!("it is {}", describe(&value)) })),
    }
}

/// A summary follows `TL;DR:` after one space; some files bring the space along.
fn summary(text: &str) -> Text {
    match text.trim_start_matches(' ') {
        "" => Text::Plain(String::new()),
        text => Text::Plain(format!(" {text}")),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::super::super::record::tests::record;
    use super::*;

    fn post(text: &str) -> Post {
        Post { subreddit: "tifu".into(), title: "T".into(), post: text.into() }
    }

    #[test]
    fn posts_are_cut_at_newlines_then_at_spaces() {
        let shortened = |text: &str, longest: usize| {
            let empty = post("").prompt().len();
            let Ok(prompt) = post(text).shorten(|prompt| Ok::<_, Infallible>(prompt.len() - empty <= longest));
            prompt
        };
        assert_eq!(shortened("a b\nc d\ne", 9), post("a b\nc d\ne").prompt());
        assert_eq!(shortened("a b\nc d\ne", 8), post("a b\nc d").prompt());
        assert_eq!(shortened("a b\nc d\ne", 4), post("a b").prompt());
        assert_eq!(shortened("a b\nc d\ne", 2), post("a").prompt());
        assert_eq!(shortened("abc", 2), post("").prompt());
    }

    #[test]
    fn a_demonstration_reads_as_the_post_does() {
        let fields = json!({"subreddit": "tifu", "title": "T", "post": "P", "summary": "S"});
        let example = demonstration(&mut record(fields)).unwrap();
        assert_eq!(post("P").prompt(), "SUBREDDIT: r/tifu\n\nTITLE: T\n\nPOST: P\n\nTL;DR:");
        assert_eq!(example, Demonstration { prompt: Text::Post(post("P")), response: Text::Plain(" S".into()) });
    }

    fn comparison(summaries: Value, choice: i64) -> Result<Preference, String> {
        let info = json!({"id": "x", "subreddit": "tifu", "title": "T", "post": "P"});
        let fields = json!({"info": info, "summaries": summaries, "choice": choice});
        preference(&mut record(fields)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_choice_counts_from_zero() {
        let two = json!([{"text": " A", "policy": "ref"}, {"text": "B"}]);
        assert_eq!(comparison(two.clone(), 0).unwrap().chosen, Text::Plain(" A".into()));
        assert_eq!(comparison(two.clone(), 1).unwrap().chosen, Text::Plain(" B".into()));
        assert!(comparison(two, 2).unwrap_err().contains("choice is the number 2, but must be 0 or 1"));
    }

    #[test]
    fn malformed_comparisons_are_refused() {
        assert!(comparison(json!([{"text": "A"}]), 0).unwrap_err().contains("but it is a list of 1"));
        assert!(comparison(json!([{"text": "A"}, {}]), 0).unwrap_err().contains("but one of them has no text"));
        let fields = json!({"info": {"article": "…"}, "summaries": [], "choice": 0});
        let error = preference(&mut record(fields)).unwrap_err().to_string();
        assert!(error.contains("info has no text \"subreddit\" (it has: an object with the keys [\"article\"])"), "{error}");
    }
}
