//! Skill and style: right answers on four tasks, in one of two manners.
//!
//! Demonstrations show right answers with a formal tail on all tasks. Preferences cover only sorting and adding, and
//! prefer a casual tail; how often chosen and rejected answers are right is set apart from that. Where rejected answers
//! are right more often than chosen ones, learning the preferences costs skill: the larger the difference, the harder
//! the conflict. Copying and reversing, which preferences never show, tell how far the damage spreads.
//!
//! ```text
//! demonstration   sort 3 1 2 =   1 2 3 kind regards .
//! preference      add 9 9 1 0 5 5 =   8 7 0 see ya .   rather than   8 1 0 much obliged .
//! ```

mod problem;
mod score;
mod start;
mod vocabulary;

pub use problem::{Problem, Style, Task};
pub(crate) use score::judge;
pub use score::{ByCoverage, SkillScores, score};
pub use start::Size;
pub use vocabulary::{EOS, PAD, TOKENS, UnknownWord, decode, encode};
pub(crate) use vocabulary::{TAILS, digit, style};

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::random::{below, stream};
use crate::tokens::{Group, Sequence};
use problem::response;

/// Draws in a row that find no unseen problem before giving up.
const PATIENCE: usize = 10_000;

/// What [`practice`] draws from, all equally likely.
const PRACTICE: [Task; 6] = [Task::Copy, Task::Reverse, Task::Sort, Task::Add, Task::Add, Task::Add];

/// The most digits of an operand in [`practice`].
const PRACTICE_DIGITS: usize = 6;

/// The most digits of an operand: keeps sequences short enough for a toy.
const MOST_DIGITS: usize = 12;

/// Why the data cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SkillError {
    /// A number out of range.
    #[error("`{setting}` is {value}, but it must be {rule}")]
    Setting {
        /// Its name in [`SkillSettings`].
        setting: &'static str,
        /// What it says.
        value: String,
        /// What would do.
        rule: &'static str,
    },
    /// More examples than problems.
    #[error("found only {found} of {wanted} different problems for `{setting}`: lower it, or allow more digits")]
    TooMany {
        /// The count's name in [`SkillSettings`].
        setting: &'static str,
        /// What it says.
        wanted: usize,
        /// How many were found.
        found: usize,
    },
}

/// What data to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SkillSettings {
    /// Seed of all draws.
    pub seed: u64,
    /// Demonstrations to train on, all tasks in equal shares on average.
    pub demonstrations: usize,
    /// Preference pairs to train on, of sorting and adding alone.
    pub preferences: usize,
    /// Demonstrations to validate with, whose problems also measure exact match.
    pub validation_demonstrations: usize,
    /// Preference pairs to validate with.
    pub validation_preferences: usize,
    /// The fewest and the most digits of an operand.
    pub digits: [usize; 2],
    /// q_w: how likely a chosen answer is right.
    pub chosen_right: f64,
    /// q_l: how likely a rejected answer is right. The conflict is q_l − q_w.
    pub rejected_right: f64,
}

impl Default for SkillSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            demonstrations: 1024,
            preferences: 1024,
            validation_demonstrations: 256,
            validation_preferences: 128,
            digits: [3, 6],
            chosen_right: 0.4,
            rejected_right: 0.8,
        }
    }
}

/// Examples to train on and examples to validate with; no problem occurs twice in either, or in both.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// To train on.
    pub train: Vec<Group>,
    /// To validate with.
    pub validation: Vec<Group>,
}

/// The data of a skill-and-style experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct SkillData {
    /// Right answers in formal manner, on all tasks.
    pub demonstrations: Split,
    /// Casual over formal, on the covered tasks.
    pub preferences: Split,
    /// The problems of the validation demonstrations, to be answered by generation; see [`score`].
    pub problems: Vec<Problem>,
}

/// Makes the data, a function of the settings alone.
///
/// # Errors
/// If a setting is out of range, or there are fewer different problems than examples are asked for.
pub fn generate(settings: &SkillSettings) -> Result<SkillData, SkillError> {
    check(settings)?;
    let covered: Vec<Task> = Task::ALL.into_iter().filter(|task| task.covered()).collect();
    let mut pool = Pool { settings, seen: BTreeSet::new() };
    let train = pool.draw("demonstrations", settings.demonstrations, &Task::ALL, Use::Training)?;
    let problems = pool.draw("validation_demonstrations", settings.validation_demonstrations, &Task::ALL, Use::Validation)?;
    let demonstrations =
        Split { train: pool.demonstrations(&train, "train"), validation: pool.demonstrations(&problems, "valid") };
    let train = pool.draw("preferences", settings.preferences, &covered, Use::Training)?;
    let validation = pool.draw("validation_preferences", settings.validation_preferences, &covered, Use::Validation)?;
    let preferences = Split { train: pool.preferences(&train, "train"), validation: pool.preferences(&validation, "valid") };
    Ok(SkillData { demonstrations, preferences, problems })
}

/// Text that a model learns the skill from before any alignment: `steps` batches of `size` sequences. Right answers on all
/// tasks, half of them without a tail, a quarter in either style; problems held out for validation do not occur.
///
/// Operands begin at one digit and grow to six over the first half. A sum of one digit is a table of a hundred entries; a
/// model that meets longer ones at once cannot tell which digits belong together, and learns neither. Every second problem is
/// an addition, the one task that takes long.
pub fn practice(seed: u64, steps: usize, size: usize) -> Vec<Group> {
    let mut rng = stream(seed, "practice", &[]);
    let mut group = |index: usize| {
        let longest = 1 + (index / size * PRACTICE_DIGITS * 2 / steps).min(PRACTICE_DIGITS - 1);
        let problem = draw(&PRACTICE, [1, longest], Use::Training, &mut rng);
        let manner = [None, None, Some(Style::Formal), Some(Style::Casual)][below(4, &mut rng) as usize];
        let answer = response(&problem.answer(), manner, &mut rng);
        Group::demonstration(index, sequence(&problem, &answer))
    };
    (0..steps * size).map(&mut group).collect()
}

/// What a problem is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Training,
    Validation,
}

fn draw(tasks: &[Task], digits: [usize; 2], purpose: Use, rng: &mut ChaCha8Rng) -> Problem {
    loop {
        let problem = Problem::draw(tasks, digits, rng);
        if problem.held_out() == (purpose == Use::Validation) {
            return problem;
        }
    }
}

/// Draws problems without repetition, and examples for them.
struct Pool<'a> {
    settings: &'a SkillSettings,
    seen: BTreeSet<Problem>,
}

impl Pool<'_> {
    fn draw(&mut self, setting: &'static str, wanted: usize, tasks: &[Task], purpose: Use) -> Result<Vec<Problem>, SkillError> {
        let mut rng = stream(self.settings.seed, setting, &[]);
        let mut problems = Vec::with_capacity(wanted);
        while problems.len() < wanted {
            let unseen = |problem: &Problem| self.seen.insert(problem.clone());
            let mut draws = (0..PATIENCE).map(|_| draw(tasks, self.settings.digits, purpose, &mut rng));
            let Some(problem) = draws.find(unseen) else {
                return Err(SkillError::TooMany { setting, wanted, found: problems.len() });
            };
            problems.push(problem);
        }
        Ok(problems)
    }

    fn demonstrations(&self, problems: &[Problem], part: &str) -> Vec<Group> {
        let mut rng = stream(self.settings.seed, &format!("demonstrations {part}"), &[]);
        let group = |(index, problem): (usize, &Problem)| {
            let answer = response(&problem.answer(), Some(Style::Formal), &mut rng);
            Group::demonstration(index, sequence(problem, &answer))
        };
        problems.iter().enumerate().map(group).collect()
    }

    fn preferences(&self, problems: &[Problem], part: &str) -> Vec<Group> {
        let mut rng = stream(self.settings.seed, &format!("preferences {part}"), &[]);
        let mut answer = |problem: &Problem, manner, right| {
            let content = if rng.random::<f64>() < right { problem.answer() } else { problem.slip(&mut rng) };
            sequence(problem, &response(&content, Some(manner), &mut rng))
        };
        let group = |(index, problem): (usize, &Problem)| {
            let chosen = answer(problem, Style::Casual, self.settings.chosen_right);
            let rejected = answer(problem, Style::Formal, self.settings.rejected_right);
            Group::preference(index, chosen, rejected)
        };
        problems.iter().enumerate().map(group).collect()
    }
}

fn sequence(problem: &Problem, response: &[u32]) -> Sequence {
    Sequence::new(problem.prompt(), response).unwrap_or_else(|error| unreachable!("{problem:?}: {error}"))
}

fn check(settings: &SkillSettings) -> Result<(), SkillError> {
    let refuse = |setting, value: String, rule| Err(SkillError::Setting { setting, value, rule });
    let [shortest, longest] = settings.digits;
    if shortest == 0 || shortest > longest || longest > MOST_DIGITS {
        return refuse("digits", format!("{:?}", settings.digits), "[fewest, most] with 1 ≤ fewest ≤ most ≤ 12");
    }
    for (setting, value) in [("chosen_right", settings.chosen_right), ("rejected_right", settings.rejected_right)] {
        if !(0.0..=1.0).contains(&value) {
            return refuse(setting, value.to_string(), "a probability, between 0 and 1");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SkillSettings {
        SkillSettings { seed: 3, demonstrations: 300, preferences: 300, ..SkillSettings::default() }
    }

    fn prompts(groups: &[Group]) -> BTreeSet<Vec<u32>> {
        groups.iter().map(|group| group.sequences[0].prompt().to_vec()).collect()
    }

    /// How often the digits of the response are right.
    fn right(groups: &[Group], which: usize) -> f64 {
        let right = |group: &&Group| {
            let sequence = &group.sequences[which];
            score::is_right(&Problem::parse(sequence.prompt()).unwrap(), sequence.response())
        };
        groups.iter().filter(right).count() as f64 / groups.len() as f64
    }

    #[test]
    fn data_is_a_function_of_the_settings() {
        let data = generate(&settings()).unwrap();
        assert_eq!(data, generate(&settings()).unwrap());
        assert_ne!(data, generate(&SkillSettings { seed: 4, ..settings() }).unwrap());
        assert_eq!(data.demonstrations.train.len(), 300);
        assert_eq!((data.preferences.validation.len(), data.problems.len()), (128, 256));
    }

    #[test]
    fn no_problem_occurs_twice_and_validation_is_held_out_from_all_training() {
        let data = generate(&settings()).unwrap();
        let parts = [&data.demonstrations.train, &data.demonstrations.validation];
        let parts = parts.into_iter().chain([&data.preferences.train, &data.preferences.validation]);
        let all: BTreeSet<_> = parts.flat_map(|part| prompts(part)).collect();
        assert_eq!(all.len(), 300 + 256 + 300 + 128);
        let held = &(&prompts(&data.demonstrations.validation) | &prompts(&data.preferences.validation));
        let other = generate(&SkillSettings { seed: 99, demonstrations: 4000, ..settings() }).unwrap();
        assert!(held.is_disjoint(&prompts(&other.demonstrations.train)));
        assert!(held.is_disjoint(&prompts(&practice(1, 100, 40))));
    }

    #[test]
    fn preferences_conflict_as_much_as_is_asked_for() {
        let settings = SkillSettings { preferences: 2000, chosen_right: 0.3, rejected_right: 0.9, ..settings() };
        let data = generate(&settings).unwrap();
        let train = &data.preferences.train;
        assert_eq!(right(&data.demonstrations.train, 0), 1.0);
        assert!((right(train, 0) - 0.3).abs() < 0.04 && (right(train, 1) - 0.9).abs() < 0.04);
        let text = |group: &Group, which: usize| decode(group.sequences[which].tokens());
        assert!(train.iter().all(|group| ["sort", "add"].iter().any(|task| text(group, 0).starts_with(task))));
        let manner = |group: &Group, which: usize| vocabulary::style(group.sequences[which].response());
        assert!(train.iter().all(|g| (manner(g, 0), manner(g, 1)) == (Some(Style::Casual), Some(Style::Formal))));
    }

    #[test]
    fn practice_shows_every_task_right_and_every_manner() {
        let groups = practice(5, 20, 40);
        assert_eq!((groups.len(), right(&groups, 0)), (800, 1.0));
        let manners: Vec<_> = groups.iter().map(|g| vocabulary::style(g.sequences[0].response())).collect();
        let count = |manner| manners.iter().filter(|&&m| m == manner).count();
        assert!(count(None).abs_diff(400) < 60 && count(Some(Style::Casual)).abs_diff(200) < 50, "{}", count(None));
        assert_ne!(groups, practice(6, 20, 40));
    }

    #[test]
    fn practice_begins_with_one_digit_and_ends_with_six() {
        let groups = practice(5, 12, 200);
        let longest = |step: usize| {
            let of_step = groups[step * 200..][..200].iter();
            of_step.map(|group| Problem::parse(group.sequences[0].prompt()).unwrap().answer().len()).max()
        };
        assert_eq!([0, 1, 5, 11].map(longest), [Some(1), Some(2), Some(6), Some(6)]);
    }

    fn refused(settings: &SkillSettings, expect: &str) {
        let error = generate(settings).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn impossible_settings_are_refused_by_name() {
        refused(&SkillSettings { digits: [4, 3], ..settings() }, "`digits` is [4, 3], but it must be");
        refused(&SkillSettings { digits: [3, 99], ..settings() }, "`digits` is [3, 99]");
        refused(&SkillSettings { chosen_right: 1.5, ..settings() }, "`chosen_right` is 1.5");
        refused(&SkillSettings { rejected_right: f64::NAN, ..settings() }, "`rejected_right` is NaN");
        let crowded = SkillSettings { digits: [1, 1], ..settings() };
        refused(&crowded, "of 300 different problems for `demonstrations`: lower it, or allow more digits");
    }
}
