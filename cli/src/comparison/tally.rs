//! Who was judged better, and how often.

use serde::{Deserialize, Serialize};

use super::length::length_controlled;

/// Which of two answers is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The first file's.
    Win,
    /// The second file's.
    Loss,
    /// Neither.
    Tie,
    /// The judge's reply names none, or both.
    Unclear,
    /// The judge would not answer.
    Refused,
}

impl Verdict {
    /// To the first answers; `None` where there is nothing to count.
    fn worth(self) -> Option<f64> {
        match self {
            Self::Win => Some(1.0),
            Self::Loss => Some(0.0),
            Self::Tie => Some(0.5),
            Self::Unclear | Self::Refused => None,
        }
    }
}

/// Verdicts counted, and what follows from the counts. All but the counts are absent where there is nothing to divide by.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Tally {
    /// Comparisons that the first answers won.
    pub wins: usize,
    /// That they lost.
    pub losses: usize,
    /// That nobody won.
    pub ties: usize,
    /// Whose verdict could not be read; they count nowhere else.
    pub unclear: usize,
    /// That the judge would not answer; they count nowhere else.
    pub refused: usize,
    /// Wins and half the ties, of all that were read.
    pub win_rate: Option<f64>,
    /// The standard error of that mean over comparisons.
    pub standard_error: Option<f64>,
    /// How often the first answer would win if both were as long as each other (AlpacaEval 2's regression on the difference of lengths, for
    /// one pair of models); absent where all verdicts are the same.
    pub length_controlled_win_rate: Option<f64>,
    /// Its standard error.
    pub length_controlled_error: Option<f64>,
    /// PandaLM's score: wins of those that are no ties.
    pub decided_win_rate: Option<f64>,
    /// How often, of those that are no ties, the longer answer won; of answers as long as each other, half. A judge that reads nothing but length is at 1.
    pub longer_wins: Option<f64>,
}

impl Tally {
    /// Counts verdicts, each with the lengths of both answers.
    pub fn of(verdicts: impl IntoIterator<Item = (Verdict, [usize; 2])>) -> Self {
        let mut tally = Self::default();
        let (mut longer, mut results) = (0.0, Vec::new());
        for (verdict, [first, second]) in verdicts {
            results.extend(verdict.worth().map(|won| (won, first as f64 - second as f64)));
            match verdict {
                Verdict::Win => (tally.wins, longer) = (tally.wins + 1, longer + share(first, second)),
                Verdict::Loss => (tally.losses, longer) = (tally.losses + 1, longer + share(second, first)),
                Verdict::Tie => tally.ties += 1,
                Verdict::Unclear => tally.unclear += 1,
                Verdict::Refused => tally.refused += 1,
            }
        }
        let (wins, ties) = (tally.wins as f64, tally.ties as f64);
        let decided = (tally.wins + tally.losses) as f64;
        let read = decided + ties;
        let over = |count: f64, of: f64| (of > 0.0).then(|| count / of);
        tally.win_rate = over(wins + ties / 2.0, read);
        tally.standard_error = tally.win_rate.filter(|_| read > 1.0).map(|mean| {
            let squares = wins + ties / 4.0;
            ((squares / read - mean * mean).max(0.0) / (read - 1.0)).sqrt()
        });
        (tally.length_controlled_win_rate, tally.length_controlled_error) = length_controlled(&results).unzip();
        tally.decided_win_rate = over(wins, decided);
        tally.longer_wins = over(longer, decided);
        tally
    }
}

/// 1 if the winner is longer than the loser, one half if they are equally long.
fn share(winner: usize, loser: usize) -> f64 {
    match winner.cmp(&loser) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Loss, Refused, Tie, Unclear, Win};
    use super::*;

    #[test]
    fn rates_follow_from_counts() {
        let verdicts = [(Win, [5, 3]), (Win, [1, 9]), (Loss, [2, 2]), (Tie, [4, 4]), (Unclear, [1, 1]), (Refused, [1, 1])];
        let tally = Tally::of(verdicts);
        assert_eq!((tally.wins, tally.losses, tally.ties, tally.unclear, tally.refused), (2, 1, 1, 1, 1));
        assert_eq!((tally.win_rate, tally.decided_win_rate), (Some(2.5 / 4.0), Some(2.0 / 3.0)));
        assert_eq!(tally.longer_wins, Some(1.5 / 3.0));
        assert!(tally.length_controlled_win_rate.is_some_and(|rate| (0.0..1.0).contains(&rate)));
        // The standard deviation of 1, 1, 0, ½ with n − 1, over √4.
        let deviations: f64 = [1.0_f64, 1.0, 0.0, 0.5].iter().map(|x| (x - 0.625).powi(2)).sum();
        assert!((tally.standard_error.unwrap() - (deviations / 3.0).sqrt() / 2.0).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_divided_is_absent() {
        assert_eq!(Tally::of([]), Tally::default());
        let ties = Tally::of([(Tie, [1, 1])]);
        assert_eq!((ties.win_rate, ties.standard_error, ties.decided_win_rate), (Some(0.5), None, None));
    }
}
