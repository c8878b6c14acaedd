//! What every format is read into.

use std::borrow::Cow;

use super::format::tldr::Post;
use crate::text::{Message, Role};

/// One side of an example.
#[derive(Debug, Clone, PartialEq)]
pub enum Text {
    /// No prompt: plain text to model from its beginning on.
    Nothing,
    /// Text that is taken as it is.
    Plain(String),
    /// Chat messages, for a chat template.
    Chat(Vec<Message>),
    /// A TL;DR prompt, whose post may have to be shortened.
    Post(Post),
}

impl Text {
    /// As a person reads it: a single message without its role, several with theirs.
    pub fn readable(&self) -> String {
        match self {
            Text::Nothing => String::new(),
            Text::Plain(text) => text.clone(),
            Text::Post(post) => post.prompt(),
            Text::Chat(messages) => match messages.as_slice() {
                [only] => only.readable(),
                many => many.iter().map(|m| format!("{}: {}", m.role().name(), m.readable())).collect::<Vec<_>>().join("\n\n"),
            },
        }
    }

    /// An answer to it that says nothing.
    fn silence(&self) -> Self {
        match self {
            Text::Chat(_) => Text::Chat(vec![Message::new(Role::Assistant, "")]),
            _ => Text::Plain(String::new()),
        }
    }

    /// The kind in words, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Text::Nothing => "nothing",
            Text::Plain(_) | Text::Post(_) => "text",
            Text::Chat(_) => "chat messages",
        }
    }
}

/// A prompt and the response to learn.
#[derive(Debug, Clone, PartialEq)]
pub struct Demonstration {
    /// What the model is given.
    pub prompt: Text,
    /// What it should say.
    pub response: Text,
}

/// A prompt, a better and a worse response.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// What the model is given.
    pub prompt: Text,
    /// The preferred response.
    pub chosen: Text,
    /// The other one.
    pub rejected: Text,
}

/// What objectives are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Prompts with one response, for SFT.
    Demonstrations,
    /// Prompts with two responses, for DPO and reward models.
    Preferences,
    /// Prompts alone, to be answered.
    Prompts,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [Kind::Demonstrations, Kind::Preferences, Kind::Prompts];

    /// Those with a response.
    pub const ANSWERED: [Kind; 2] = [Kind::Demonstrations, Kind::Preferences];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Demonstrations => "demonstrations",
            Kind::Preferences => "preferences",
            Kind::Prompts => "prompts",
        }
    }
}

/// An example of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Example {
    /// A demonstration.
    Demonstration(Demonstration),
    /// A preference.
    Preference(Preference),
    /// A prompt alone.
    Prompt(Text),
}

impl Example {
    /// Which kind.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Example::Demonstration(_) => Kind::Demonstrations,
            Example::Preference(_) => Kind::Preferences,
            Example::Prompt(_) => Kind::Prompts,
        }
    }

    /// What the model is given.
    pub fn prompt(&self) -> &Text {
        match self {
            Example::Demonstration(demonstration) => &demonstration.prompt,
            Example::Preference(preference) => &preference.prompt,
            Example::Prompt(prompt) => prompt,
        }
    }

    /// The responses, the chosen one first, with the names messages give them; of a prompt alone one that says nothing.
    pub fn responses(&self) -> Vec<(&'static str, Cow<'_, Text>)> {
        let named = |name, response| (name, Cow::Borrowed(response));
        match self {
            Example::Demonstration(demonstration) => vec![named("response", &demonstration.response)],
            Example::Preference(preference) => {
                vec![named("chosen response", &preference.chosen), named("rejected response", &preference.rejected)]
            }
            Example::Prompt(prompt) => vec![("end of an answer", Cow::Owned(prompt.silence()))],
        }
    }
}
