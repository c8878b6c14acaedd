//! What a judge is asked, and how its reply is understood.

use std::path::Path;

use hbat::random::{below, stream};
use minijinja::{Environment, UndefinedBehavior, context};

use super::error::JudgeError;
use super::tally::Verdict;

/// Questions by name.
const KNOWN: [(&str, &str); 2] =
    [("helpful", include_str!("questions/helpful.jinja")), ("summary", include_str!("questions/summary.jinja"))];

const NAME: &str = "question";

/// Words of a line that names an answer anywhere in it, such as "B it is".
const FEW: usize = 3;

/// A question about two answers: a Jinja template that prints `prompt`, `a` and `b`.
#[derive(Debug, Clone)]
pub struct Question(Environment<'static>);

/// Which answer the judge sees as A. It is drawn, for judges prefer places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The first file's.
    AsGiven,
    /// The second file's.
    Swapped,
}

impl Order {
    /// Of the comparison at this place; a function of the seed and the place.
    pub fn draw(seed: u64, place: usize) -> Self {
        match below(2, &mut stream(seed, "judge", &[place as u64])) {
            0 => Self::AsGiven,
            _ => Self::Swapped,
        }
    }

    /// The answers as A and B.
    pub fn arrange<T>(self, [first, second]: [T; 2]) -> [T; 2] {
        match self {
            Self::AsGiven => [first, second],
            Self::Swapped => [second, first],
        }
    }

    /// What a reply says. Its last line with a word in it must name one of A and B, and not the other: as its last word, or in so few that
    /// an A is no article.
    pub fn read(self, reply: &str) -> Verdict {
        let words = |line: &str| -> Vec<String> {
            line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let last = reply.lines().rev().map(words).find(|words| !words.is_empty()).unwrap_or_default();
        let names = |letter: &str| {
            let stands = last.iter().any(|word| word == letter);
            stands && (last.len() <= FEW || last.last().is_some_and(|word| word == letter))
        };
        let both = ["A", "B"].iter().all(|letter| last.iter().any(|word| word == letter));
        match (names("A"), names("B"), self) {
            _ if both => Verdict::Unclear,
            (true, false, Self::AsGiven) | (false, true, Self::Swapped) => Verdict::Win,
            (true, false, Self::Swapped) | (false, true, Self::AsGiven) => Verdict::Loss,
            _ => Verdict::Unclear,
        }
    }
}

impl Question {
    /// A question by its name, or a template from a file.
    ///
    /// # Errors
    /// If it is neither, or the template is broken or does not print everything.
    pub fn load(name: &str) -> Result<Self, JudgeError> {
        let known = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
        let text = match known {
            Some(text) => text,
            None => std::fs::read_to_string(Path::new(name)).map_err(|error| JudgeError::Question {
                question: name.to_owned(),
                reason: format!("is neither helpful nor summary, nor a file that can be read ({error})"),
            })?,
        };
        let broken = |error: minijinja::Error| JudgeError::Question { question: name.to_owned(), reason: format!("{error:#}") };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_template_owned(NAME, text).map_err(broken)?;
        let question = Self(environment);
        let sample = question.ask("\u{1}", ["\u{2}", "\u{3}"])?;
        let lacking = [("prompt", '\u{1}'), ("a", '\u{2}'), ("b", '\u{3}')].into_iter().find(|(_, mark)| !sample.contains(*mark));
        match lacking {
            Some((lacking, _)) => Err(JudgeError::Question {
                question: name.to_owned(),
                reason: format!("does not print {{{{ {lacking} }}}}; a question prints prompt, a and b"),
            }),
            None => Ok(question),
        }
    }

    /// The question about two answers, A and B.
    ///
    /// # Errors
    /// If the template fails.
    pub fn ask(&self, prompt: &str, [a, b]: [&str; 2]) -> Result<String, JudgeError> {
        let template = self.0.get_template(NAME);
        let asked = template.and_then(|template| template.render(context! { prompt, a, b }));
        asked.map_err(|error| JudgeError::Question { question: "the question".to_owned(), reason: format!("{error:#}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_decides_and_the_order_says_for_whom() {
        let check = |reply: &str, as_given: Verdict, swapped: Verdict| {
            assert_eq!([Order::AsGiven.read(reply), Order::Swapped.read(reply)], [as_given, swapped], "{reply:?}");
        };
        check("B lists more rivers.\nA", Verdict::Win, Verdict::Loss);
        check("Both are fine.\n\nBetter: **B**.\n \n", Verdict::Loss, Verdict::Win);
        check("A", Verdict::Win, Verdict::Loss);
        check("The better answer is A", Verdict::Win, Verdict::Loss);
        check("[[B]]\n```", Verdict::Loss, Verdict::Win);
        let article = "A clearer answer is given by the second one.";
        for unclear in ["", "\n", "A or B", "neither", "a", "AB", "The answer is C", article, "A good answer is B"] {
            check(unclear, Verdict::Unclear, Verdict::Unclear);
        }
    }

    #[test]
    fn orders_are_drawn_evenly_and_again_alike() {
        let swapped = (0..1000).filter(|place| Order::draw(0, *place) == Order::Swapped).count();
        assert!((440..560).contains(&swapped), "{swapped}");
        assert!((0..50).all(|place| Order::draw(3, place) == Order::draw(3, place)));
        assert!((0..50).any(|place| Order::draw(3, place) != Order::draw(4, place)));
    }

    #[test]
    fn questions_print_what_they_ask_about() {
        for name in ["helpful", "summary"] {
            let asked = Question::load(name).unwrap().ask("What {{ is }} it?", ["<b>", "{% raw"]).unwrap();
            assert!(asked.contains("What {{ is }} it?") && asked.contains("<b>") && asked.contains("{% raw"), "{asked}");
        }
    }

    #[test]
    fn questions_that_leave_something_out_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("q.jinja");
        let refused = |text: &str, words: &str| {
            std::fs::write(&file, text).unwrap();
            let error = Question::load(file.to_str().unwrap()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused("{{ prompt }} {{ a }}", "does not print {{ b }}");
        refused("{{ prompt }} {{ a }} {{ b }} {{ c }}", "undefined");
        refused("{{ prompt ", "syntax error");
        let error = Question::load("helpfull").unwrap_err().to_string();
        assert!(error.contains("neither helpful nor summary"), "{error}");
    }
}
