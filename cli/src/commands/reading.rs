//! From the command line's words to the readers' own.

use crate::args::Reading;
use crate::config::{FormatName, TemplateName, TooLongChoice};
use crate::data::{CodecOptions, Format, ReadOptions, TemplateChoice, TooLong};

impl From<TemplateName> for TemplateChoice {
    fn from(name: TemplateName) -> Self {
        match name {
            TemplateName::Auto => Self::Auto,
            TemplateName::Model => Self::Model,
            TemplateName::Plain => Self::Plain,
        }
    }
}

impl From<TooLongChoice> for TooLong {
    fn from(choice: TooLongChoice) -> Self {
        match choice {
            TooLongChoice::Error => Self::Error,
            TooLongChoice::Drop => Self::Drop,
            TooLongChoice::Truncate => Self::Truncate,
        }
    }
}

impl From<FormatName> for Option<Format> {
    fn from(name: FormatName) -> Self {
        Some(match name {
            FormatName::Auto => return None,
            FormatName::PromptCompletion => Format::PromptCompletion,
            FormatName::Messages => Format::Messages,
            FormatName::Alpaca => Format::Alpaca,
            FormatName::Tldr => Format::Tldr,
            FormatName::Text => Format::Text,
            FormatName::PromptChosenRejected => Format::PromptChosenRejected,
            FormatName::AlpacaFarm => Format::AlpacaFarm,
            FormatName::HhRlhf => Format::HhRlhf,
            FormatName::TldrComparisons => Format::TldrComparisons,
        })
    }
}

impl Reading {
    pub(super) fn codec(self) -> CodecOptions {
        CodecOptions { template: self.template.into(), max_length: self.max_length, too_long: self.too_long.into() }
    }

    pub(super) fn read(self, limit: Option<usize>) -> ReadOptions {
        ReadOptions { format: self.format.into(), limit, columns: Default::default() }
    }
}
