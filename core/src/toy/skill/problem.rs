//! Problems of the skill-and-style task, their answers, right and wrong.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::vocabulary::{EOS, EQUALS, TAILS, digit, digit_token, tail, task_token};
use crate::random::below;

/// What is to be done with the digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The digits as they are.
    Copy,
    /// The digits from the last to the first.
    Reverse,
    /// The digits in ascending order.
    Sort,
    /// The digits of two operands added one by one, modulo 10, without carry.
    Add,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 4] = [Self::Copy, Self::Reverse, Self::Sort, Self::Add];

    /// Whether preferences cover the task. The others show what preference training does to skills it never sees.
    pub fn covered(self) -> bool {
        matches!(self, Self::Sort | Self::Add)
    }
}

/// The manner of the words after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// As demonstrations end: "kind regards".
    Formal,
    /// As preferred answers end: "see ya".
    Casual,
}

/// A task and its digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    task: Task,
    digits: Vec<u8>,
    /// The second operand of an addition, as long as the first; otherwise empty.
    addend: Vec<u8>,
}

impl Problem {
    /// One of the `tasks` and so many digits as `shortest..=longest` allows, all equally likely.
    pub(super) fn draw(tasks: &[Task], [shortest, longest]: [usize; 2], rng: &mut ChaCha8Rng) -> Self {
        let task = tasks[below(tasks.len() as u64, rng) as usize];
        let length = shortest + below((longest - shortest) as u64 + 1, rng) as usize;
        let mut digits = || (0..length).map(|_| below(10, rng) as u8).collect();
        Self { task, digits: digits(), addend: if task == Task::Add { digits() } else { Vec::new() } }
    }

    /// The problem that a [`prompt`](Self::prompt) poses, if it poses one.
    pub fn parse(prompt: &[u32]) -> Option<Self> {
        let (&first, rest) = prompt.split_first()?;
        let task = Task::ALL.into_iter().find(|&task| task_token(task) == first)?;
        let digits = rest.strip_suffix(&[EQUALS])?.iter().map(|&token| digit(token)).collect::<Option<Vec<u8>>>()?;
        let problem = match task {
            Task::Add if digits.len() % 2 == 0 => {
                let (digits, addend) = digits.chunks(2).map(|pair| (pair[0], pair[1])).unzip();
                Self { task, digits, addend }
            }
            Task::Add => return None,
            _ => Self { task, digits, addend: Vec::new() },
        };
        (!problem.digits.is_empty()).then_some(problem)
    }

    /// The task.
    pub fn task(&self) -> Task {
        self.task
    }

    /// The prompt: `sort 3 1 2 =`; for 915 + 905 without carry `add 9 9 1 0 5 5 =`, as columns are added.
    pub fn prompt(&self) -> Vec<u32> {
        let mut tokens = vec![task_token(self.task)];
        for (place, &first) in self.digits.iter().enumerate() {
            tokens.push(digit_token(first));
            tokens.extend(self.addend.get(place).map(|&second| digit_token(second)));
        }
        tokens.push(EQUALS);
        tokens
    }

    /// The right digits.
    pub fn answer(&self) -> Vec<u8> {
        let mut answer = self.digits.clone();
        match self.task {
            Task::Copy => {}
            Task::Reverse => answer.reverse(),
            Task::Sort => answer.sort_unstable(),
            Task::Add => answer.iter_mut().zip(&self.addend).for_each(|(a, b)| *a = (*a + b) % 10),
        }
        answer
    }

    /// Wrong digits that look right: as many, and one slip away. Two unlike digits change places, or, half the time and
    /// always where all are alike or sums are asked for, one digit is another.
    pub(super) fn slip(&self, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut answer = self.answer();
        let at = below(answer.len() as u64, rng) as usize;
        let unlike: Vec<usize> = (0..answer.len()).filter(|&i| answer[i] != answer[at]).collect();
        if self.task != Task::Add && !unlike.is_empty() && rng.random::<bool>() {
            answer.swap(at, unlike[below(unlike.len() as u64, rng) as usize]);
        } else {
            answer[at] = (answer[at] + 1 + below(9, rng) as u8) % 10;
        }
        answer
    }

    /// Whether training must leave the problem to validation: about one in eight, told by the prompt alone, so that no
    /// two data sets, whatever their seeds and sizes, train on what another validates with.
    pub(crate) fn held_out(&self) -> bool {
        let mix = |hash: u32, token: &u32| (hash ^ token).wrapping_mul(0x9e37_79b1).rotate_left(15);
        self.prompt().iter().fold(0, mix) % 8 == 0
    }
}

/// A response: digits, a tail of the style (one of five, equally likely; none without a style), end of sequence.
pub(super) fn response(content: &[u8], manner: Option<Style>, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let mut tokens: Vec<u32> = content.iter().map(|&d| digit_token(d)).collect();
    if let Some(manner) = manner {
        tokens.extend(tail(manner, below(u64::from(TAILS), rng) as u32));
    }
    tokens.push(EOS);
    tokens
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::{decode, encode};
    use super::*;
    use crate::random::stream;

    fn check(problem: Problem, prompt: &str, answer: &[u8]) {
        assert_eq!(decode(&problem.prompt()), prompt);
        assert_eq!(problem.answer(), answer, "{prompt}");
        assert_eq!(Problem::parse(&problem.prompt()), Some(problem));
    }

    fn problem(task: Task, digits: &[u8], addend: &[u8]) -> Problem {
        Problem { task, digits: digits.to_vec(), addend: addend.to_vec() }
    }

    #[test]
    fn answers_are_right() {
        check(problem(Task::Copy, &[3, 1, 2], &[]), "copy 3 1 2 =", &[3, 1, 2]);
        check(problem(Task::Reverse, &[3, 1, 2], &[]), "reverse 3 1 2 =", &[2, 1, 3]);
        check(problem(Task::Sort, &[3, 1, 2, 1], &[]), "sort 3 1 2 1 =", &[1, 1, 2, 3]);
        check(problem(Task::Add, &[9, 1, 5], &[9, 0, 5]), "add 9 9 1 0 5 5 =", &[8, 1, 0]);
    }

    #[test]
    fn what_poses_no_problem_is_not_read_as_one() {
        for text in ["", "=", "sort =", "sort 1 2", "sort 1 = 2 =", "add 1 2 3 =", "add =", "1 2 =", "copy kind ="] {
            assert_eq!(Problem::parse(&encode(text).unwrap()), None, "{text}");
        }
    }

    #[test]
    fn a_slip_is_wrong_and_as_long() {
        let mut rng = stream(1, "test", &[]);
        for _ in 0..2000 {
            let problem = Problem::draw(&Task::ALL, [1, 3], &mut rng);
            let slip = problem.slip(&mut rng);
            assert_ne!(slip, problem.answer());
            assert_eq!(slip.len(), problem.answer().len());
        }
    }

    #[test]
    fn about_one_problem_in_eight_of_every_task_is_held_out() {
        let mut rng = stream(2, "test", &[]);
        for task in Task::ALL {
            let held = (0..8000).filter(|_| Problem::draw(&[task], [3, 6], &mut rng).held_out()).count();
            assert!((850..1150).contains(&held), "{task:?}: {held}");
        }
    }
}
