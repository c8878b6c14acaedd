//! What every format is read into.

use super::format::tldr::Post;
use crate::text::Message;

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
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Demonstrations, Kind::Preferences];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Demonstrations => "demonstrations",
            Kind::Preferences => "preferences",
        }
    }
}

/// An example of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Example {
    /// A demonstration.
    Demonstration(Demonstration),
    /// A preference.
    Preference(Preference),
}

impl Example {
    /// What the model is given.
    pub fn prompt(&self) -> &Text {
        match self {
            Example::Demonstration(demonstration) => &demonstration.prompt,
            Example::Preference(preference) => &preference.prompt,
        }
    }

    /// The responses, the chosen one first, with the names messages give them.
    pub fn responses(&self) -> Vec<(&'static str, &Text)> {
        match self {
            Example::Demonstration(demonstration) => vec![("response", &demonstration.response)],
            Example::Preference(preference) => {
                vec![("chosen response", &preference.chosen), ("rejected response", &preference.rejected)]
            }
        }
    }
}
