//! `hbat compare`: which of two models answers better.

use std::io::Write;
use std::path::Path;

use hbat::generate::Finish;
use hbat::model::HeadKind;

use crate::args::{Compare, JudgeOptions};
use crate::comparison::{
    ByJudge, ByReward, Compared, EndpointOptions, Judge, JudgeError, JudgeSettings, Report, Rouge, Side, Tally, Verdict, rouge,
};
use crate::data::{Answer, Comparison, DataError, ReadOptions, Style, Text, encode_comparisons, load_answers};
use crate::model::ModelError;
use crate::report::{Bar, harmless, tell};
use crate::run::compute;
use crate::signal::{Interrupt, Interrupted};

use super::reading::{check_length, codec, load, longest, open, score};

pub(super) async fn run(options: &Compare) -> anyhow::Result<i32> {
    // What is wrong with the question or the address is told before anything is computed.
    let judge = options.judge.settings(options.seed).map(Judge::open).transpose()?;
    let comparisons = read(options)?;
    let mut examples: Vec<Compared> = (0..comparisons.len()).map(|index| Compared { index, ..Compared::default() }).collect();
    let by_reward = match &options.reward_model {
        Some(folder) => Some(by_reward(folder, options, &comparisons, &mut examples).await?),
        None => None,
    };
    let by_judge = match judge {
        Some(judge) => Some(by_judge(judge, &comparisons, &mut examples).await?),
        None => None,
    };
    let rouge = options.rouge.then(|| by_words(&comparisons, &mut examples));
    let side = |place: usize, file: &Path| {
        let total: usize = comparisons.iter().map(|comparison| length(&comparison.answers[place])).sum();
        let cut_off = comparisons.iter().filter(|comparison| comparison.finish[place] == Finish::Length).count();
        Side { file: file.to_path_buf(), characters: total as f64 / comparisons.len() as f64, cut_off }
    };
    let (answers, others) = (side(0, &options.answers), side(1, &options.others));
    examples.retain(|_| options.per_example);
    let report = Report { answers, others, prompts: comparisons.len(), by_reward, by_judge, rouge, examples };
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?
    } else {
        write!(out, "{report}")?
    }
    Ok(0)
}

/// Both files. Where one of them has plain prompts, instructions in the other are worded as Alpaca words them for plain models.
fn read(options: &Compare) -> anyhow::Result<Vec<Comparison>> {
    let answers = options.reading.read(options.limit);
    let others = ReadOptions { format: options.others_format.into(), ..ReadOptions::default() };
    let load = |style| -> Result<[Vec<Answer>; 2], DataError> {
        Ok([load_answers(&options.answers, style, &answers)?, load_answers(&options.others, style, &others)?])
    };
    let is_plain = |answers: &Vec<Answer>| matches!(answers.first(), Some(Answer { prompt: Text::Plain(_), .. }));
    let mut both = load(Style::Chat)?;
    if both.iter().any(is_plain) && !both.iter().all(is_plain) {
        both = load(Style::Plain)?;
    }
    let [answers, others] = both;
    Ok(Comparison::pair(answers, others)?)
}

/// In characters.
fn length(answer: &Text) -> usize {
    answer.readable().chars().count()
}

fn lengths(comparison: &Comparison) -> [usize; 2] {
    comparison.answers.each_ref().map(length)
}

async fn by_reward(
    folder: &Path,
    options: &Compare,
    comparisons: &[Comparison],
    examples: &mut [Compared],
) -> anyhow::Result<ByReward> {
    let codec = codec(folder, options.reading)?;
    let opened = open(folder, &codec)?;
    if opened.config().architecture.head != HeadKind::Value {
        return Err(ModelError::LanguageModel { path: folder.to_path_buf() }.into());
    }
    let mut loaded = encode_comparisons(comparisons, &codec)?;
    // That two models agree is nothing to warn of.
    loaded.report.identical = 0;
    for warning in loaded.report.warnings() {
        tell(format_args!("warning: {warning}"));
    }
    check_length(&opened, longest(&loaded.groups))?;
    let judge = load(&opened, &compute(options.device)?)?;
    let rewards = score(options.micro_batch, &judge, &loaded.groups, "comparisons").await?;
    for (group, pair) in loaded.groups.iter().zip(&rewards) {
        examples[group.index].rewards = Some([pair[0], pair[1]]);
    }
    let judged = examples.iter().zip(comparisons).filter_map(|(example, pair)| Some((example.rewards?, lengths(pair))));
    let mean = |which: usize| rewards.iter().map(|pair| pair[which]).sum::<f64>() / rewards.len() as f64;
    Ok(ByReward {
        model: folder.to_path_buf(),
        compared: rewards.len(),
        answers: mean(0),
        others: mean(1),
        tally: Tally::of(judged.map(|([answer, other], lengths)| (larger(answer, other), lengths))),
    })
}

fn larger(answer: f64, other: f64) -> Verdict {
    match answer.total_cmp(&other) {
        std::cmp::Ordering::Greater => Verdict::Win,
        std::cmp::Ordering::Less => Verdict::Loss,
        std::cmp::Ordering::Equal => Verdict::Tie,
    }
}

/// What a judge says; a signal stops the asking, and leaves the file of verdicts with all replies so far.
async fn by_judge(mut judge: Judge, comparisons: &[Comparison], examples: &mut [Compared]) -> anyhow::Result<ByJudge> {
    let interrupt = Interrupt::listen();
    let mut bar = Bar::items("verdicts", comparisons.len() as u64);
    let mut heard = |place: usize, verdict: Result<Verdict, &JudgeError>| {
        examples[place].verdict = Some(verdict.unwrap_or_else(|error| {
            let error = harmless(&error.to_string());
            bar.hidden(|| tell(format_args!("warning: {}: {error}", comparisons[place].place)));
            Verdict::Refused
        }));
        bar.advance(1);
    };
    tokio::select! {
        asked = judge.ask(comparisons, &mut heard) => asked?,
        () = interrupt.wait() => return Err(Interrupted.into()),
    }
    drop(bar);
    let judged = examples.iter().zip(comparisons).filter_map(|(example, pair)| Some((example.verdict?, lengths(pair))));
    Ok(ByJudge { tally: Tally::of(judged), model: judge.model().to_owned(), question: judge.question().to_owned() })
}

impl JudgeOptions {
    fn settings(&self, seed: u64) -> Option<JudgeSettings> {
        let endpoint = EndpointOptions {
            url: self.url.clone()?,
            model: self.judge_model.clone()?,
            request: self.request.clone(),
            // What is no text is no key, and refused as such.
            key: std::env::var_os("OPENAI_API_KEY").map(|key| key.to_string_lossy().into_owned()).filter(|key| !key.is_empty()),
        };
        let (question, verdicts) = (self.question.clone(), self.verdicts.clone());
        Some(JudgeSettings { endpoint, question, verdicts, concurrency: self.concurrency, seed })
    }
}

fn by_words(comparisons: &[Comparison], examples: &mut [Compared]) -> Rouge {
    let score = |(example, Comparison { answers: [answer, reference], .. }): (&mut Compared, &Comparison)| {
        let scores = rouge(&answer.readable(), &reference.readable());
        example.rouge_l = Some(scores.rouge_l.f);
        scores
    };
    Rouge::mean(&examples.iter_mut().zip(comparisons).map(score).collect::<Vec<_>>())
}
