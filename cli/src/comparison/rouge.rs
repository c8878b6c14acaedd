//! ROUGE-1, -2 and -L as Google's `rouge-score` computes them without stemming (Lin 2004).

use std::collections::HashMap;

use serde::Serialize;

/// How much a candidate and a reference share.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct RougeScore {
    /// Of the candidate's units, those in the reference.
    pub precision: f64,
    /// Of the reference's units, those in the candidate.
    pub recall: f64,
    /// Their harmonic mean.
    pub f: f64,
}

/// The three scores that are commonly reported.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Rouge {
    /// Of words.
    pub rouge1: RougeScore,
    /// Of pairs of words that follow each other.
    pub rouge2: RougeScore,
    /// Of the longest common subsequence of words.
    #[serde(rename = "rougeL")]
    pub rouge_l: RougeScore,
}

impl RougeScore {
    fn new(shared: usize, candidate: usize, reference: usize) -> Self {
        if shared == 0 {
            return Self::default();
        }
        let (precision, recall) = (shared as f64 / candidate as f64, shared as f64 / reference as f64);
        Self { precision, recall, f: 2.0 * precision * recall / (precision + recall) }
    }

    fn mean(scores: impl ExactSizeIterator<Item = Self>) -> Self {
        let count = scores.len().max(1) as f64;
        let sum = scores.fold(Self::default(), |sum, score| Self {
            precision: sum.precision + score.precision,
            recall: sum.recall + score.recall,
            f: sum.f + score.f,
        });
        Self { precision: sum.precision / count, recall: sum.recall / count, f: sum.f / count }
    }
}

impl Rouge {
    /// The mean of each number.
    pub fn mean(scores: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> RougeScore| RougeScore::mean(scores.iter().map(of));
        Self { rouge1: mean(|score| score.rouge1), rouge2: mean(|score| score.rouge2), rouge_l: mean(|score| score.rouge_l) }
    }
}

/// Scores a candidate against a reference.
pub fn rouge(candidate: &str, reference: &str) -> Rouge {
    let texts = [candidate, reference].map(str::to_lowercase);
    let [candidate, reference] = [&texts[0], &texts[1]].map(|text| words(text));
    let grams = |n: usize| {
        let [ours, theirs] = [&candidate, &reference].map(|words| counts(words, n));
        let shared = ours.iter().map(|(gram, count)| *count.min(theirs.get(gram).unwrap_or(&0))).sum();
        RougeScore::new(shared, ours.values().sum(), theirs.values().sum())
    };
    let common = longest_common_subsequence(&candidate, &reference);
    Rouge { rouge1: grams(1), rouge2: grams(2), rouge_l: RougeScore::new(common, candidate.len(), reference.len()) }
}

/// Runs of the letters a to z and digits of a lower-case text.
fn words(text: &str) -> Vec<&str> {
    let between = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit());
    text.split(between).filter(|word| !word.is_empty()).collect()
}

fn counts<'a, 'b>(words: &'a [&'b str], n: usize) -> HashMap<&'a [&'b str], usize> {
    let mut counts = HashMap::new();
    for gram in words.windows(n) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

/// Its length, row by row of the usual table.
fn longest_common_subsequence(first: &[&str], second: &[&str]) -> usize {
    let mut row = vec![0; second.len() + 1];
    for one in first {
        let mut diagonal = 0;
        for (column, other) in second.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if one == other { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    row[second.len()]
}
