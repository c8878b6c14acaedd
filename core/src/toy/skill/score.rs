//! Measuring a policy's answers: content apart from manner.

use super::vocabulary::{EOS, digit, style};
use super::{Problem, Style, Task};
use crate::generate::{Completion, GenerateError, GenerateSettings, Sampling, generate};
use crate::model::Policy;

/// A share between 0 and 1 of the problems that preferences cover, and of those they do not. NaN where there are none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ByCoverage {
    /// Of sorting and adding.
    pub covered: f64,
    /// Of copying and reversing.
    pub uncovered: f64,
}

impl ByCoverage {
    fn share(judged: &[(Task, bool)]) -> Self {
        Self { covered: share(judged, Task::covered), uncovered: share(judged, |task| !task.covered()) }
    }
}

/// How a policy answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkillScores {
    /// All digits right, whatever words follow.
    pub exact_match: ByCoverage,
    /// The same for each of [`Task::ALL`].
    pub by_task: [f64; 4],
    /// Ends in casual manner.
    pub casual: ByCoverage,
}

/// Answers the `problems` by greedy generation and judges the answers.
///
/// # Errors
/// As [`generate`]; a policy of another vocabulary than the toy's has unknown tokens.
pub async fn score(policy: &Policy, problems: &[Problem]) -> Result<SkillScores, GenerateError> {
    let prompts: Vec<Vec<u32>> = problems.iter().map(Problem::prompt).collect();
    let longest = problems.iter().map(|problem| problem.answer().len()).max().unwrap_or(0);
    let settings = GenerateSettings {
        max_new_tokens: longest + 3, // the tail's two words and the end
        sampling: Sampling::Greedy,
        eos: vec![EOS],
        ..GenerateSettings::default()
    };
    Ok(judge(problems, &generate(policy, &prompts, &settings).await?))
}

/// Judges answers to `problems`.
pub(crate) fn judge(problems: &[Problem], completions: &[Completion]) -> SkillScores {
    let answers = || problems.iter().zip(completions);
    let right: Vec<_> = answers().map(|(p, c)| (p.task(), is_right(p, &c.tokens))).collect();
    let casual: Vec<_> = answers().map(|(p, c)| (p.task(), style(&c.tokens) == Some(Style::Casual))).collect();
    SkillScores {
        exact_match: ByCoverage::share(&right),
        by_task: Task::ALL.map(|task| share(&right, |other| other == task)),
        casual: ByCoverage::share(&casual),
    }
}

/// The share of hits among the tasks that are meant; NaN where there are none.
fn share(judged: &[(Task, bool)], meant: impl Fn(Task) -> bool) -> f64 {
    let hits: Vec<bool> = judged.iter().filter(|(task, _)| meant(*task)).map(|(_, hit)| *hit).collect();
    hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64
}

/// Whether the digits that a response begins with are the right ones, no more and no fewer.
pub(super) fn is_right(problem: &Problem, response: &[u32]) -> bool {
    response.iter().map_while(|&token| digit(token)).eq(problem.answer())
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::encode;
    use super::*;

    fn check(prompt: &str, response: &str, right: bool, manner: Option<Style>) {
        let problem = Problem::parse(&encode(prompt).unwrap()).unwrap();
        let response = encode(response).unwrap();
        assert_eq!((is_right(&problem, &response), style(&response)), (right, manner), "{prompt} {response:?}");
    }

    #[test]
    fn content_is_judged_apart_from_manner() {
        check("sort 3 1 2 =", "1 2 3 kind regards .", true, Some(Style::Formal));
        check("sort 3 1 2 =", "1 2 3 see ya .", true, Some(Style::Casual));
        check("sort 3 1 2 =", "1 2 3 .", true, None);
        check("sort 3 1 2 =", "1 3 2 see ya .", false, Some(Style::Casual));
        check("sort 3 1 2 =", "1 2 .", false, None);
        check("sort 3 1 2 =", "1 2 3 3 kind regards .", false, Some(Style::Formal));
        check("add 9 9 1 0 =", "8 1 no", true, Some(Style::Casual));
        check("copy 7 =", "", false, None);
    }

    #[test]
    fn shares_are_taken_by_coverage() {
        let judged = [(Task::Sort, true), (Task::Add, false), (Task::Copy, true), (Task::Sort, false), (Task::Reverse, true)];
        assert_eq!(ByCoverage::share(&judged), ByCoverage { covered: 1.0 / 3.0, uncovered: 1.0 });
        assert_eq!(share(&judged, |task| task == Task::Sort), 0.5);
        assert!(ByCoverage::share(&judged[..1]).uncovered.is_nan());
    }
}
