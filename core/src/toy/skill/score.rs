//! Measuring a policy's answers: content apart from manner.

use super::vocabulary::{EOS, digit, style};
use super::{Problem, Style};
use crate::generate::{GenerateError, GenerateSettings, Sampling, generate};
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
    fn share(judged: &[(bool, bool)]) -> Self {
        let share = |covered: bool| {
            let hits: Vec<bool> = judged.iter().filter(|(c, _)| *c == covered).map(|(_, hit)| *hit).collect();
            hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64
        };
        Self { covered: share(true), uncovered: share(false) }
    }
}

/// How a policy answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkillScores {
    /// All digits right, whatever words follow.
    pub exact_match: ByCoverage,
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
    let completions = generate(policy, &prompts, &settings).await?;
    let answers = || problems.iter().zip(&completions);
    let right: Vec<_> = answers().map(|(p, c)| (p.task().covered(), is_right(p, &c.tokens))).collect();
    let casual: Vec<_> = answers().map(|(p, c)| (p.task().covered(), style(&c.tokens) == Some(Style::Casual))).collect();
    Ok(SkillScores { exact_match: ByCoverage::share(&right), casual: ByCoverage::share(&casual) })
}

/// Whether the digits that a response begins with are the right ones, no more and no fewer.
pub(super) fn is_right(problem: &Problem, response: &[u32]) -> bool {
    response.iter().map_while(|&token| digit(token)).eq(problem.answer())
}
