//! What loading found: how many examples, how long, what the length policy did to them.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::quantile;

/// Counts and lengths of a data set. Prints as a few lines with a histogram, but for its [`warnings`](Self::warnings).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LengthReport {
    /// Examples read.
    pub read: usize,
    /// Examples kept.
    pub kept: usize,
    /// The places, in the data set, of examples left out because they are too long.
    pub dropped: Vec<usize>,
    /// Sequences whose response lost its end, and with it the end-of-sequence token.
    pub truncated: usize,
    /// The places of prompts alone, which are to be answered.
    pub unanswered: BTreeSet<usize>,
    /// Those of them that lost their beginning.
    pub cut_prompts: usize,
    /// TL;DR posts cut at a newline to meet the format's prompt length. This is the format's rule, not the length policy's doing.
    pub shortened: usize,
    /// Pairs whose chosen and rejected responses are the same tokens: they teach nothing.
    pub identical: usize,
    /// Prompt tokens kept, counted once per sequence.
    pub prompt_tokens: usize,
    /// Response tokens kept; after a prompt alone there are none.
    pub response_tokens: usize,
    /// The limit that was set.
    pub max_length: usize,
    /// Tokens of every sequence read, before anything was cut: one per demonstration, two per preference, one per prompt alone, with the
    /// end of an answer.
    pub lengths: Vec<usize>,
}

impl LengthReport {
    /// Sequences longer than the limit, whatever became of them.
    pub fn over(&self) -> usize {
        self.lengths.iter().filter(|length| **length > self.max_length).count()
    }

    /// What a user should hear about even when not asking: dropped, cut and identical examples, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.dropped.is_empty() {
            let first = self.dropped.iter().take(5).map(usize::to_string).collect::<Vec<_>>().join(", ");
            let more = if self.dropped.len() > 5 { ", …" } else { "" };
            warnings.push(format!("{} of {} examples dropped as too long: {first}{more}", self.dropped.len(), self.read));
        }
        if self.truncated > 0 {
            warnings.push(format!(
                "{} of {} sequences too long: their responses were cut at the end, without an end-of-sequence token",
                self.truncated,
                self.lengths.len()
            ));
        }
        if self.cut_prompts > 0 {
            warnings.push(format!(
                "{} of {} prompts too long: their beginnings were cut",
                self.cut_prompts,
                self.unanswered.len()
            ));
        }
        if self.shortened > 0 {
            warnings.push(format!("{} of {} posts shortened to the format's prompt length", self.shortened, self.read));
        }
        if self.identical > 0 {
            warnings.push(format!("{} of {} pairs have the same chosen and rejected response", self.identical, self.read));
        }
        warnings
    }

    /// A bar per range of lengths. Ranges are equally wide, a power of two, at most twelve of them.
    pub fn histogram(&self) -> String {
        const BARS: usize = 12;
        const WIDEST: usize = 40;
        let longest = self.lengths.iter().max().copied().unwrap_or(0);
        let width = (longest / BARS + 1).next_power_of_two();
        let mut counts = vec![0; longest / width + 1];
        for length in &self.lengths {
            counts[length / width] += 1;
        }
        let most = counts.iter().max().copied().unwrap_or(0).max(1);
        let digits = longest.to_string().len();
        let row = |(place, count): (usize, &usize)| {
            let (from, to) = (place * width, (place + 1) * width - 1);
            // Rounded up, so that a single sequence still shows.
            let bar = "#".repeat((count * WIDEST).div_ceil(most));
            format!("{from:>digits$} to {to:>digits$}  {bar} {count}\n")
        };
        counts.iter().enumerate().map(row).collect()
    }
}

impl fmt::Display for LengthReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.lengths.clone();
        sorted.sort_unstable();
        let (shortest, longest) = (sorted.first().copied().unwrap_or(0), sorted.last().copied().unwrap_or(0));
        let median = quantile(sorted.iter().map(|length| *length as f64), 0.5).unwrap_or(0.0);
        let unanswered = match self.unanswered.len() {
            0 => String::new(),
            prompts => format!(", {prompts} of them prompts alone"),
        };
        let examples = if self.read == 1 { "example" } else { "examples" };
        writeln!(formatter, "{} {examples} read{unanswered}, {} kept", self.read, self.kept)?;
        writeln!(formatter, "{} prompt tokens, {} response tokens", self.prompt_tokens, self.response_tokens)?;
        writeln!(formatter, "tokens per sequence: {shortest} to {longest}, median {median}; {} over the limit", self.over())?;
        formatter.write_str(&self.histogram())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_cover_every_length_once() {
        let report = LengthReport { lengths: vec![1, 2, 15, 16, 100], max_length: 99, ..LengthReport::default() };
        let histogram = report.histogram();
        let counts: Vec<usize> = histogram.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(counts, [3, 1, 0, 0, 0, 0, 1]);
        assert!(
            histogram.starts_with(&format!("  0 to  15  {} 3\n 16 to  31  {} 1\n", "#".repeat(40), "#".repeat(14))),
            "{histogram}"
        );
        assert_eq!(report.over(), 1);
    }

    #[test]
    fn nothing_read_is_an_empty_histogram() {
        assert_eq!(LengthReport::default().histogram(), "0 to 0   0\n");
    }

    #[test]
    fn what_was_done_to_the_data_is_said() {
        let report = LengthReport {
            read: 9,
            kept: 2,
            dropped: vec![0, 1, 2, 3, 4, 5, 6],
            truncated: 1,
            unanswered: BTreeSet::from([5, 7]),
            cut_prompts: 1,
            shortened: 2,
            identical: 3,
            lengths: vec![4; 18],
            ..LengthReport::default()
        };
        let text = format!("{report}{}", report.warnings().join("\n"));
        for expected in [
            "9 examples read, 2 of them prompts alone, 2 kept",
            "1 of 2 prompts too long: their beginnings were cut",
            "7 of 9 examples dropped as too long: 0, 1, 2, 3, 4, …",
            "1 of 18 sequences too long: their responses were cut at the end",
            "2 of 9 posts shortened",
            "3 of 9 pairs have the same chosen and rejected response",
            "tokens per sequence: 4 to 4, median 4",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(LengthReport { read: 9, kept: 9, ..LengthReport::default() }.warnings().is_empty());
    }
}
