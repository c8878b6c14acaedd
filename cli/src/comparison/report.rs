//! What `hbat compare` prints.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::rouge::{Rouge, RougeScore};
use super::tally::{Tally, Verdict};
use crate::report::counted;

/// One file of answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// The file.
    pub file: PathBuf,
    /// The mean length of its answers, in characters.
    pub characters: f64,
    /// Answers that were cut off at their longest length. To a reward model they have no end.
    pub cut_off: usize,
}

/// What a reward model says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByReward {
    /// Its folder.
    pub model: PathBuf,
    /// Comparisons, those left out that are too long for it.
    pub compared: usize,
    /// The mean reward of the first answers.
    pub answers: f64,
    /// The mean reward of the others.
    pub others: f64,
    /// Who had the larger reward.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What a language model behind an API says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByJudge {
    /// Its name.
    pub model: String,
    /// What it was asked.
    pub question: String,
    /// Whom it preferred.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One comparison of `compare --per-example`. What was not asked for is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Compared {
    /// Its place among the first answers, from 0.
    pub index: usize,
    /// The rewards of both answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewards: Option<[f64; 2]>,
    /// The judge's verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// F of ROUGE-L.
    #[serde(rename = "rougeL", skip_serializing_if = "Option::is_none")]
    pub rouge_l: Option<f64>,
}

/// All that `compare` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The answers that win or lose.
    pub answers: Side,
    /// The answers they are compared with.
    pub others: Side,
    /// Prompts that both answer.
    pub prompts: usize,
    /// The reward model's view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_reward: Option<ByReward>,
    /// The judge's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_judge: Option<ByJudge>,
    /// Means over prompts, the others being the references.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rouge: Option<Rouge>,
    /// Every comparison, where asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Compared>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} against {}: {}",
            self.answers.file.display(),
            self.others.file.display(),
            counted(self.prompts, "prompt")
        )?;
        writeln!(f, "  characters     {:.0} and {:.0} per answer", self.answers.characters, self.others.characters)?;
        let [ours, theirs] = [&self.answers, &self.others].map(|side| side.cut_off);
        if ours + theirs > 0 {
            writeln!(f, "  cut off        {ours} and {theirs} answers, at their longest length")?;
        }
        if let Some(by) = &self.by_reward {
            writeln!(f, "reward model     {}: {} compared", by.model.display(), by.compared)?;
            writeln!(f, "  mean rewards   {:.4} and {:.4}", by.answers, by.others)?;
            tally(f, &by.tally)?;
        }
        if let Some(by) = &self.by_judge {
            writeln!(f, "judge            {}, asked which is better ({})", by.model, by.question)?;
            tally(f, &by.tally)?;
        }
        if let Some(scores) = &self.rouge {
            writeln!(f, "ROUGE × 100      F, precision and recall")?;
            for (name, score) in [("1", scores.rouge1), ("2", scores.rouge2), ("L", scores.rouge_l)] {
                let RougeScore { precision, recall, f: mean } = score;
                writeln!(f, "  ROUGE-{name}        {:.2}  {:.2}  {:.2}", 100.0 * mean, 100.0 * precision, 100.0 * recall)?;
            }
        }
        self.examples.iter().try_for_each(|example| writeln!(f, "{example}"))
    }
}

fn tally(f: &mut fmt::Formatter<'_>, tally: &Tally) -> fmt::Result {
    let Tally { wins, losses, ties, unclear, refused, .. } = tally;
    let rate = |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.3}"));
    let about = |error: Option<f64>| error.map_or_else(String::new, |error| format!(" ± {error:.3}"));
    let error = about(tally.standard_error);
    writeln!(f, "  win rate       {}{error} ({wins} won, {losses} lost, {ties} tied)", rate(tally.win_rate))?;
    if let controlled @ Some(_) = tally.length_controlled_win_rate {
        let error = about(tally.length_controlled_error);
        writeln!(f, "  LC win rate    {}{error} (length-controlled: as if both were as long)", rate(controlled))?;
    }
    if *ties > 0 {
        writeln!(f, "  without ties   {}", rate(tally.decided_win_rate))?;
    }
    if *unclear > 0 {
        writeln!(f, "  unclear        {unclear} replies that name no answer, or both; they do not count")?;
    }
    if *refused > 0 {
        writeln!(f, "  refused        {refused} questions that were not answered; they do not count")?;
    }
    writeln!(f, "  longer wins    {}", rate(tally.longer_wins))
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ", self.index)?;
        if let Some([answer, other]) = self.rewards {
            write!(f, " rewards {answer:.4} and {other:.4}")?;
        }
        if let Some(verdict) = self.verdict {
            let word = match verdict {
                Verdict::Win => "won",
                Verdict::Loss => "lost",
                Verdict::Tie => "tied",
                Verdict::Unclear => "unclear",
                Verdict::Refused => "refused",
            };
            write!(f, " judge: {word}")?;
        }
        if let Some(score) = self.rouge_l {
            write!(f, " ROUGE-L {:.2}", 100.0 * score)?;
        }
        Ok(())
    }
}
