//! The prompts that are answered at every moment, and what is right and wrong, formal and casual about an answer.

use super::LabError;
use super::frame::{Mark, Marked, Prompt};
use crate::generate::{Completion, GenerateSettings, Sampling, generate};
use crate::model::Policy;
use crate::toy::skill::{EOS, Problem, Style, decode, digit, encode, style};

/// Two of each covered task, which preferences are about, and one of each other; training leaves all of them out.
pub(super) const PROMPTS: [&str; 6] =
    ["sort 8 6 7 =", "sort 2 9 4 7 8 =", "add 2 3 5 9 7 7 =", "add 4 1 9 5 6 6 8 0 =", "reverse 2 4 0 1 =", "copy 8 7 3 5 9 ="];

/// The longest prompt: with the longest answer, still what the model has positions for.
const LONGEST: usize = 32;

/// An answer's most words: six digits, a tail of two and the end; a few more show that it does not end.
pub(super) const ANSWER: usize = 9;

/// A pinned prompt's problem.
pub(super) fn problem(prompt: &str) -> Problem {
    let tokens = encode(prompt).unwrap_or_else(|error| unreachable!("a pinned prompt: {error}"));
    Problem::parse(&tokens).unwrap_or_else(|| unreachable!("a pinned prompt: {prompt}"))
}

/// A pinned prompt as a header describes it.
pub(super) fn describe(prompt: &str) -> Prompt {
    let problem = problem(prompt);
    let right: Vec<String> = problem.answer().iter().map(u8::to_string).collect();
    Prompt { text: prompt.into(), task: problem.task(), covered: problem.task().covered(), right: right.join(" ") }
}

/// Greedy answers to prompts as tokens.
pub(super) async fn answers(policy: &Policy, prompts: &[Vec<u32>]) -> Result<Vec<Completion>, LabError> {
    let settings =
        GenerateSettings { max_new_tokens: ANSWER, sampling: Sampling::Greedy, eos: vec![EOS], ..GenerateSettings::default() };
    Ok(generate(policy, prompts, &settings).await?)
}

/// A policy's answer to a text.
pub(super) async fn answer(policy: &Policy, prompt: &str) -> Result<Vec<Marked>, LabError> {
    let tokens = encode(prompt)?;
    if !(1..=LONGEST).contains(&tokens.len()) {
        return Err(LabError::Prompt { found: tokens.len(), rule: format!("1 to {LONGEST}, such as `sort 3 1 2 =`") });
    }
    let problem = Problem::parse(&tokens);
    let completions = answers(policy, &[tokens]).await?;
    Ok(completions.iter().flat_map(|completion| marked(problem.as_ref(), &completion.tokens)).collect())
}

/// Every token of an answer with its mark; the digits of an answer to no problem have none.
pub(super) fn marked(problem: Option<&Problem>, answer: &[u32]) -> Vec<Marked> {
    let right = problem.map(Problem::answer);
    let mut digits = 0..;
    let mut mark = |token: u32| match (digit(token), style(&[token]), &right) {
        (Some(digit), _, Some(right)) => {
            let place = digits.next().unwrap_or_default();
            Some(if right.get(place) == Some(&digit) { Mark::Right } else { Mark::Wrong })
        }
        (Some(_), _, None) => None,
        (None, Some(Style::Formal), _) => Some(Mark::Formal),
        (None, Some(Style::Casual), _) => Some(Mark::Casual),
        (None, None, _) => Some(if token == EOS { Mark::End } else { Mark::Wrong }),
    };
    answer.iter().map(|&token| Marked { text: decode(&[token]), mark: mark(token) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prompt: &str, answer: &str, expect: &[Option<Mark>]) {
        let problem = Problem::parse(&encode(prompt).unwrap());
        let marks: Vec<_> = marked(problem.as_ref(), &encode(answer).unwrap()).into_iter().map(|token| token.mark).collect();
        assert_eq!(marks, expect, "{prompt} {answer}");
    }

    #[test]
    fn digits_are_judged_by_their_place_and_words_by_their_manner() {
        use Mark::{Casual, End, Formal, Right, Wrong};
        let some = |marks: &[Mark]| marks.iter().copied().map(Some).collect::<Vec<_>>();
        check("sort 3 1 2 =", "1 2 3 kind regards .", &some(&[Right, Right, Right, Formal, Formal, End]));
        check("sort 3 1 2 =", "1 3 3 3 see ya sort", &some(&[Right, Wrong, Right, Wrong, Casual, Casual, Wrong]));
        check("1 2 =", "1 .", &[None, Some(End)]);
    }

    #[test]
    fn pinned_prompts_are_kept_out_of_training() {
        assert!(PROMPTS.iter().all(|prompt| problem(prompt).held_out()), "{:?}", PROMPTS.map(|p| problem(p).held_out()));
        assert_eq!(PROMPTS.iter().filter(|prompt| describe(prompt).covered).count(), 4);
        assert_eq!(describe(PROMPTS[0]).right, "6 7 8");
    }
}
