//! Examples to tokens: template, tokenizer, and what happens to those that are too long.

use std::path::Path;

use hbat::tokens::{Group, Sequence, SequenceError};
use serde::{Deserialize, Serialize};

use super::error::{DataError, ExampleFault};
use super::example::{Example, Kind, Text};
use super::format::tldr;
use crate::text::{ChatTemplate, Generation, Message, TextError, Tokenizer};

/// What to do with examples longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// Stop and name the first one.
    #[default]
    Error,
    /// Leave them out, and count them.
    Drop,
    /// Cut the response's end (its end-of-sequence token goes with it), and count them. A prompt that leaves no room for even one
    /// response token, or, where it is to be answered, for an answer's end, loses its beginning until it fills half the limit.
    Truncate,
}

/// Which template turns chat messages into text. Prompts and responses that are plain text use none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateChoice {
    /// The model's own if it has one; without one, chat messages are an error and instructions get Alpaca's text.
    #[default]
    Auto,
    /// The model's own; an error if it has none.
    Model,
    /// None: prompt and answer are joined as they are, and instructions get Alpaca's text.
    Plain,
}

/// How instructions are put: as chat messages or as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For a chat template.
    Chat,
    /// With the format's own words.
    Plain,
}

/// The template in use.
#[derive(Debug, Clone)]
enum Template {
    Chat(ChatTemplate),
    Plain,
    Missing,
}

/// How examples are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecOptions {
    /// Which template to use.
    pub template: TemplateChoice,
    /// Most tokens of a sequence, prompt and response together; at least 2.
    pub max_length: usize,
    /// What to do with longer ones.
    pub too_long: TooLong,
}

/// Turns examples into tokens as one model wants them.
#[derive(Debug, Clone)]
pub struct Codec {
    tokenizer: Tokenizer,
    template: Template,
    max_length: usize,
    too_long: TooLong,
}

/// A rendered and tokenised prompt.
struct Rendered {
    text: String,
    tokens: Vec<u32>,
    shortened: Shortened,
}

/// A response's tokens, its end included.
enum Said {
    Nothing(Vec<u32>),
    Something(Vec<u32>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortened {
    No,
    Yes,
}

/// Whose responses are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// A data set's, to be learned: they say something, and keep to their format's length.
    DataSet,
    /// A model's, which are what they are.
    Model,
}

/// What became of an example.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Encoded {
    /// The tokens, or `None` if it was dropped.
    pub(super) group: Option<Group>,
    /// Tokens of each sequence before any were cut.
    pub(super) lengths: Vec<usize>,
    /// What the example is.
    pub(super) kind: Kind,
    /// Sequences whose end was cut.
    pub(super) truncated: usize,
    /// Prompts alone whose beginning was cut.
    pub(super) cut_prompts: usize,
    /// Whether a post was shortened to make the prompt fit its format.
    pub(super) shortened: bool,
}

impl Codec {
    /// Reads a model directory's tokenizer and template.
    ///
    /// # Errors
    /// If they are unusable, the template asked for is absent, or the limit is below 2.
    pub fn load(directory: &Path, options: CodecOptions) -> Result<Self, DataError> {
        let CodecOptions { template, max_length, too_long } = options;
        if max_length < 2 {
            return Err(DataError::MaxLength { max_length });
        }
        let tokenizer = Tokenizer::load(directory)?;
        let template = match template {
            TemplateChoice::Plain => Template::Plain,
            choice => match ChatTemplate::load(directory, tokenizer.special_tokens())? {
                Some(template) => Template::Chat(template),
                None if choice == TemplateChoice::Auto => Template::Missing,
                None => return Err(no_template(&tokenizer).into()),
            },
        };
        Ok(Self { tokenizer, template, max_length, too_long })
    }

    /// The same codec with the template's clock set to a time, in seconds since 1970 (UTC). See [`ChatTemplate::at`].
    ///
    /// # Errors
    /// None that loading did not already report.
    pub fn at(self, seconds: f64) -> Result<Self, DataError> {
        let template = match self.template {
            Template::Chat(template) => Template::Chat(template.at(seconds)?),
            other => other,
        };
        Ok(Self { template, ..self })
    }

    /// Whether tokens may depend on the day, because the template prints it.
    pub fn is_dated(&self) -> bool {
        matches!(&self.template, Template::Chat(template) if template.is_dated())
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Most tokens of a sequence.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// How instructions are put.
    pub fn style(&self) -> Style {
        match self.template {
            Template::Chat(_) => Style::Chat,
            Template::Plain | Template::Missing => Style::Plain,
        }
    }

    /// The tokens of a prompt alone, as generation needs them.
    ///
    /// # Errors
    /// If the template or the tokenizer fails, or it comes to no tokens, or to so many that no response fits behind it.
    pub fn prompt(&self, prompt: &Text) -> Result<Vec<u32>, DataError> {
        let (tokens, max_length) = (self.encode_prompt(prompt)?.tokens, self.max_length);
        match tokens.len() {
            0 => Err(DataError::EmptyPrompt),
            tokens if tokens >= max_length => Err(DataError::LongPrompt { tokens, max_length }),
            _ => Ok(tokens),
        }
    }

    /// The tokens of an example, cut or dropped if it is too long.
    pub(super) fn example(&self, index: usize, example: &Example, author: Author) -> Result<Encoded, ExampleFault> {
        let prompt = self.encode_prompt(example.prompt()).map_err(ExampleFault::Text)?;
        let (kind, shortened) = (example.kind(), prompt.shortened == Shortened::Yes);
        let mut encoded = Encoded { group: None, lengths: Vec::new(), kind, truncated: 0, cut_prompts: 0, shortened };
        let mut sequences = Vec::new();
        // Nobody answers a prompt that stands alone: what follows it is the end that an answer will have.
        let author = if kind == Kind::Prompts { Author::Model } else { author };
        for (name, response) in example.responses() {
            let tokens = self.encode_response(&prompt, example.prompt(), &response)?;
            let tokens = match (tokens, author) {
                (Said::Nothing(_), Author::DataSet) => return Err(ExampleFault::EmptyResponse { response: name }),
                (Said::Nothing(tokens) | Said::Something(tokens), _) => tokens,
            };
            let least = if kind == Kind::Prompts { tokens.len() } else { 1 };
            let sides = Sides { least, ..Sides::new((example.prompt(), author), prompt.tokens.clone(), tokens) };
            encoded.lengths.push(sides.prompt.len() + sides.response.len());
            match self.fit(sides, name)? {
                Fit::Whole(sequence) => sequences.push(sequence),
                Fit::Cut(sequence) => {
                    let cut = if kind == Kind::Prompts { &mut encoded.cut_prompts } else { &mut encoded.truncated };
                    *cut += 1;
                    sequences.push(sequence);
                }
                Fit::Dropped => {}
            }
        }
        if sequences.len() == encoded.lengths.len() {
            encoded.group = Some(group(index, sequences));
        }
        Ok(encoded)
    }

    fn encode_prompt(&self, prompt: &Text) -> Result<Rendered, TextError> {
        let mut shortened = Shortened::No;
        let (text, plain) = match (prompt, &self.template) {
            (Text::Nothing, _) => (String::new(), true),
            (Text::Plain(text), _) => (text.clone(), true),
            (Text::Post(post), _) => {
                let text = post.shorten(|prompt| Ok::<_, TextError>(self.with_beginning(prompt)?.len() <= tldr::PROMPT))?;
                if text != post.prompt() {
                    shortened = Shortened::Yes;
                }
                (text, true)
            }
            (Text::Chat(messages), Template::Chat(template)) => {
                (template.render(&messages.iter().collect::<Vec<_>>(), Generation::Prompted)?, false)
            }
            (Text::Chat(messages), Template::Plain) => {
                (single(messages).ok_or_else(|| turns(messages.len(), 1))?.to_owned(), true)
            }
            (Text::Chat(_), Template::Missing) => return Err(no_template(&self.tokenizer)),
        };
        let tokens = if plain { self.with_beginning(&text)? } else { self.tokenizer.encode(&text)? };
        Ok(Rendered { text, tokens, shortened })
    }

    fn with_beginning(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut tokens: Vec<u32> = self.tokenizer.beginning().into_iter().collect();
        tokens.extend(self.tokenizer.encode(text)?);
        Ok(tokens)
    }

    fn encode_response(&self, prompt: &Rendered, given: &Text, response: &Text) -> Result<Said, ExampleFault> {
        let text = match (given, response, &self.template) {
            (Text::Chat(asked), Text::Chat(said), Template::Chat(template)) => {
                let text = template.response(&prompt.text, asked, said).map_err(ExampleFault::Text)?;
                let tokens = self.tokenizer.encode(&text).map_err(ExampleFault::Text)?;
                let silent = said.iter().all(Message::is_silent);
                return Ok(if silent { Said::Nothing(tokens) } else { Said::Something(tokens) });
            }
            (Text::Chat(asked), Text::Chat(said), _) => {
                single(said).ok_or_else(|| ExampleFault::Text(turns(asked.len(), said.len())))?
            }
            (Text::Plain(_) | Text::Post(_) | Text::Nothing, Text::Plain(text), _) => text,
            _ => return Err(ExampleFault::Text(TextError::Mixed { prompt: given.kind(), response: response.kind() })),
        };
        let mut tokens = self.tokenizer.encode(text).map_err(ExampleFault::Text)?;
        let silent = tokens.is_empty();
        tokens.push(self.tokenizer.end().map_err(ExampleFault::Text)?);
        Ok(if silent { Said::Nothing(tokens) } else { Said::Something(tokens) })
    }

    fn fit(&self, sides: Sides, name: &'static str) -> Result<Fit, ExampleFault> {
        let Sides { prompt, response, summary, least } = sides;
        let long_summary = summary.filter(|limit| response.len() > limit + 1);
        if prompt.len() + response.len() <= self.max_length && long_summary.is_none() {
            return sequence(prompt, &response, name).map(Fit::Whole);
        }
        match self.too_long {
            TooLong::Drop => Ok(Fit::Dropped),
            TooLong::Truncate => {
                let prompt = self.cut_prompt(prompt, least);
                let room = (self.max_length - prompt.len()).min(long_summary.unwrap_or(usize::MAX)).min(response.len());
                sequence(prompt, &response[..room], name).map(Fit::Cut)
            }
            TooLong::Error => Err(match long_summary {
                Some(limit) => ExampleFault::LongSummary { response: name, tokens: response.len() - 1, limit },
                None => ExampleFault::TooLong {
                    response: name,
                    tokens: response.len(),
                    prompt: prompt.len(),
                    total: prompt.len() + response.len(),
                    max_length: self.max_length,
                },
            }),
        }
    }

    /// A prompt that leaves room for so much of a response: whole if it can be, else the end of it, after the beginning-of-sequence token.
    fn cut_prompt(&self, mut prompt: Vec<u32>, least: usize) -> Vec<u32> {
        if prompt.len() + least <= self.max_length {
            return prompt;
        }
        let keep = (self.max_length / 2).max(1);
        let beginning = self.tokenizer.beginning().filter(|bos| keep > 1 && prompt.first() == Some(bos));
        let start = usize::from(beginning.is_some());
        prompt.drain(start..prompt.len() - (keep - start));
        prompt
    }
}

/// The tokens of both sides of a sequence, and the limit its format sets to the response.
struct Sides {
    prompt: Vec<u32>,
    response: Vec<u32>,
    summary: Option<usize>,
    /// Tokens of the response that are not cut.
    least: usize,
}

impl Sides {
    /// Text without a prompt lends its first token where the tokenizer adds no beginning.
    fn new((given, author): (&Text, Author), mut prompt: Vec<u32>, mut response: Vec<u32>) -> Self {
        if *given == Text::Nothing && prompt.is_empty() {
            prompt.push(response.remove(0));
        }
        let bounded = matches!(given, Text::Post(_)) && author == Author::DataSet;
        Self { prompt, response, summary: bounded.then_some(tldr::SUMMARY), least: 1 }
    }
}

enum Fit {
    Whole(Sequence),
    Cut(Sequence),
    Dropped,
}

fn sequence(prompt: Vec<u32>, response: &[u32], name: &'static str) -> Result<Sequence, ExampleFault> {
    Sequence::new(prompt, response).map_err(|error| match error {
        SequenceError::EmptyPrompt => ExampleFault::EmptyPrompt,
        SequenceError::EmptyResponse => ExampleFault::EmptyResponse { response: name },
    })
}

fn group(index: usize, mut sequences: Vec<Sequence>) -> Group {
    let first = sequences.remove(0);
    match sequences.pop() {
        Some(rejected) => Group::preference(index, first, rejected),
        None => Group::demonstration(index, first),
    }
}

/// The text of a conversation that is one message of plain text.
fn single(messages: &[Message]) -> Option<&str> {
    match messages {
        [only] => only.text(),
        _ => None,
    }
}

fn turns(prompt: usize, response: usize) -> TextError {
    TextError::ManyTurns { prompt, response }
}

fn no_template(tokenizer: &Tokenizer) -> TextError {
    TextError::NoTemplate { directory: tokenizer.directory().to_owned() }
}
