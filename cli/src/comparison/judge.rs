//! A language model that is asked about every comparison.

use std::cell::Cell;
use std::path::PathBuf;

use futures_util::{StreamExt, stream};

use super::endpoint::{Endpoint, EndpointOptions};
use super::error::JudgeError;
use super::question::{Order, Question};
use super::tally::Verdict;
use super::verdicts::Verdicts;
use crate::data::{Comparison, Text};

/// After so many refusals and no answer there is no point in asking on.
const HOPELESS: usize = 8;

/// Whom to ask, and how.
#[derive(Debug, Clone)]
pub struct JudgeSettings {
    /// The model.
    pub endpoint: EndpointOptions,
    /// A question's name, or a file with one.
    pub question: String,
    /// Where replies are kept.
    pub verdicts: Option<PathBuf>,
    /// Questions asked at the same time.
    pub concurrency: usize,
    /// What draws which answer is seen first.
    pub seed: u64,
}

/// A language model behind an API, and what it is asked.
#[derive(Debug)]
pub struct Judge {
    endpoint: Endpoint,
    question: (String, Question),
    verdicts: Verdicts,
    concurrency: usize,
    seed: u64,
}

/// A comparison that has not been judged yet.
struct Open {
    place: usize,
    order: Order,
    key: String,
    question: String,
}

impl Judge {
    /// Prepares to ask; asks nothing.
    ///
    /// # Errors
    /// If the address, the question or the file of verdicts cannot be used.
    pub fn open(settings: JudgeSettings) -> Result<Self, JudgeError> {
        let endpoint = Endpoint::new(settings.endpoint)?;
        let question = Question::load(&settings.question)?;
        let verdicts = settings.verdicts.as_deref().map_or_else(|| Ok(Verdicts::default()), Verdicts::open)?;
        let (question, concurrency, seed) = ((settings.question, question), settings.concurrency, settings.seed);
        Ok(Self { endpoint, question, verdicts, concurrency, seed })
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        self.endpoint.model()
    }

    /// The question's name, or its file.
    pub fn question(&self) -> &str {
        &self.question.0
    }

    /// Asks about every comparison, several at a time; `heard` gets each place with its verdict, or with why the judge would not answer that
    /// one. Nothing is asked about answers that are the same, nor what the file of verdicts answers.
    ///
    /// # Errors
    /// If the judge cannot be reached or answers nothing, or a reply cannot be kept. What was being asked at that moment is still
    /// heard.
    pub async fn ask(
        &mut self,
        comparisons: &[Comparison],
        heard: &mut dyn FnMut(usize, Result<Verdict, &JudgeError>),
    ) -> Result<(), JudgeError> {
        let (mut open, mut answered) = (Vec::new(), 0);
        for (place, comparison) in comparisons.iter().enumerate() {
            match self.known(place, comparison)? {
                Ok(verdict) => {
                    answered += usize::from(verdict != Verdict::Tie);
                    heard(place, Ok(verdict));
                }
                Err(question) => open.push(question),
            }
        }
        let (endpoint, stop) = (&self.endpoint, Cell::new(false));
        let ask = |open: Open| async move { (endpoint.reply(&open.question).await, open) };
        let going_on = open.into_iter().take_while(|_| !stop.get());
        let mut replies = stream::iter(going_on).map(ask).buffer_unordered(self.concurrency);
        let (mut refused, mut failed) = (Vec::new(), None);
        while let Some((reply, Open { place, order, key, .. })) = replies.next().await {
            match reply {
                Ok(reply) => {
                    answered += 1;
                    self.verdicts.add(key, &reply)?;
                    heard(place, Ok(order.read(&reply)));
                }
                Err(error) if error.is_of_one_question() && (answered > 0 || refused.len() < HOPELESS) => {
                    heard(place, Err(&error));
                    refused.push(error);
                }
                Err(error) => {
                    stop.set(true);
                    failed.get_or_insert(error);
                }
            }
        }
        let nothing = refused.into_iter().next().filter(|_| answered == 0);
        failed.or(nothing).map_or(Ok(()), Err)
    }

    /// The verdict that needs no asking, or what to ask.
    fn known(&self, place: usize, comparison: &Comparison) -> Result<Result<Verdict, Open>, JudgeError> {
        let texts = comparison.answers.each_ref().map(Text::readable);
        let texts = texts.each_ref().map(|text| text.trim());
        if texts[0] == texts[1] {
            return Ok(Ok(Verdict::Tie));
        }
        let order = Order::draw(self.seed, place);
        let question = self.question.1.ask(comparison.prompt.readable().trim(), order.arrange(texts))?;
        let key = Verdicts::key(&self.endpoint.identity(), &question);
        let known = self.verdicts.reply(&key).map(|reply| order.read(reply));
        Ok(known.ok_or(Open { place, order, key, question }))
    }
}
