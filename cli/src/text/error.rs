//! What can be wrong with a tokenizer, a chat template, or a text given to them.

use super::message::MessageFault;

/// Why text did not become tokens. Files are those of the model directory; the caller adds the example's place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A file of the model directory could not be read.
    #[error("{file}: cannot be read ({reason}); a model directory needs tokenizer.json and tokenizer_config.json")]
    Unreadable {
        /// Path of the file.
        file: String,
        /// What the operating system said.
        reason: String,
    },
    /// `tokenizer.json` is not one.
    #[error("{file}: is no tokenizer this program can load ({reason}); save it again with transformers' save_pretrained")]
    Tokenizer {
        /// Path of the file.
        file: String,
        /// What the tokenizer library said.
        reason: String,
    },
    /// A JSON file beside the tokenizer does not parse or holds the wrong type.
    #[error("{file}: {field}: {reason}")]
    Setting {
        /// Path of the file.
        file: String,
        /// The key, or where the syntax breaks.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A special token that the vocabulary lacks.
    #[error("{file}: {field} is {token:?}, which tokenizer.json does not contain; add the token there or correct the name")]
    UnknownToken {
        /// Path of the file.
        file: String,
        /// Which special token, for example `eos_token`.
        field: String,
        /// Its text.
        token: String,
    },
    /// Plain responses must end with a token that the tokenizer does not name.
    #[error(
        "{directory}: the tokenizer names no eos_token, so a plain response has no end; set eos_token in tokenizer_config.json"
    )]
    NoEnd {
        /// The model directory.
        directory: String,
    },
    /// A chat template is needed and there is none.
    #[error(
        "{directory}: has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json), which chat messages \
         need; add one, or set template = \"plain\" to join prompt and answer as they are"
    )]
    NoTemplate {
        /// The model directory.
        directory: String,
    },
    /// The template does not compile.
    #[error("{file}, line {line}: the chat template has a syntax error: {reason}")]
    Syntax {
        /// Where the template comes from.
        file: String,
        /// Line of the template, from 1; 0 if unknown.
        line: usize,
        /// What the template engine said.
        reason: String,
    },
    /// The template refuses these messages or fails on them.
    #[error("{file}, line {line}: the chat template fails on these messages: {reason}")]
    Render {
        /// Where the template comes from.
        file: String,
        /// Line of the template, from 1; 0 if unknown.
        line: usize,
        /// What the template or its engine said.
        reason: String,
    },
    /// render(prompt) is no prefix of render(prompt + response), so there is no telling which text is the response.
    #[error(
        "{file}: the chat template renders the prompt differently once the response follows: after {common:?} the prompt goes on \
         {alone:?}, the conversation {followed:?}; use a template that only appends (some rewrite earlier turns or drop \
         reasoning), or template = \"plain\""
    )]
    NotPrefix {
        /// Where the template comes from.
        file: String,
        /// The end of what both renderings share.
        common: String,
        /// How the prompt alone continues.
        alone: String,
        /// How the prompt followed by the response continues.
        followed: String,
    },
    /// The plain template has no way to write several turns.
    #[error(
        "the plain template joins one prompt and one answer, this example has {prompt} prompt messages and {response} response \
         messages; use a model with a chat template, or write the conversation as one text"
    )]
    ManyTurns {
        /// Messages in the prompt.
        prompt: usize,
        /// Messages in the response.
        response: usize,
    },
    /// Messages on one side, plain text on the other.
    #[error("the prompt is {prompt} and the response is {response}; write both as text or both as chat messages")]
    Mixed {
        /// `text` or `chat messages`.
        prompt: &'static str,
        /// `text` or `chat messages`.
        response: &'static str,
    },
    /// A chat message is malformed.
    #[error(transparent)]
    Message(#[from] MessageFault),
    /// The tokenizer failed on a text.
    #[error("the tokenizer fails on {text:?}: {reason}")]
    Encode {
        /// The beginning of the text.
        text: String,
        /// What the tokenizer library said.
        reason: String,
    },
    /// The tokenizer failed on ids.
    #[error("the tokenizer cannot decode these ids: {reason}")]
    Decode {
        /// What the tokenizer library said.
        reason: String,
    },
}

/// The beginning of a text, short enough for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The end of a text, short enough for a message.
pub(crate) fn tail(text: &str) -> String {
    const LONGEST: usize = 30;
    match text.char_indices().rev().nth(LONGEST - 1) {
        Some((start, _)) if start > 0 => format!("…{}", &text[start..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_cut_between_characters() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
        assert_eq!(tail("short"), "short");
        assert_eq!(tail(&"é".repeat(31)), format!("…{}", "é".repeat(30)));
        assert_eq!(tail(&"é".repeat(30)), "é".repeat(30));
    }
}
