//! The words of the skill-and-style task.

use super::{Style, Task};

/// Every token, by id.
pub const TOKENS: [&str; 37] = [
    "<pad>",
    ".",
    "=",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "copy",
    "reverse",
    "sort",
    "add",
    "kind",
    "regards",
    "yours",
    "faithfully",
    "most",
    "sincerely",
    "with",
    "respect",
    "much",
    "obliged",
    "see",
    "ya",
    "cheers",
    "mate",
    "later",
    "dude",
    "peace",
    "out",
    "no",
    "worries",
];

/// Padding; never read.
pub const PAD: u32 = 0;
/// Ends a response.
pub const EOS: u32 = 1;
/// Ends a prompt.
pub(super) const EQUALS: u32 = 2;
const ZERO: u32 = 3;
const FIRST_TASK: u32 = 13;
const FIRST_FORMAL: u32 = 17;
const FIRST_CASUAL: u32 = 27;
/// How many tails of two words each style has.
pub(crate) const TAILS: u32 = 5;

/// A token that is no word of the toy's language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no word of the toy's language; its words are: {}", TOKENS.join(" "))]
pub struct UnknownWord {
    /// The word.
    pub word: String,
}

/// Token ids of a text whose words are separated by white space.
///
/// # Errors
/// If a word is not in [`TOKENS`].
pub fn encode(text: &str) -> Result<Vec<u32>, UnknownWord> {
    let id = |word: &str| {
        let found = TOKENS.iter().position(|token| *token == word);
        found.map(|id| id as u32).ok_or_else(|| UnknownWord { word: word.into() })
    };
    text.split_whitespace().map(id).collect()
}

/// The text of token ids, words separated by blanks; an id that is not in [`TOKENS`] becomes `<?>`.
pub fn decode(tokens: &[u32]) -> String {
    let word = |&id: &u32| TOKENS.get(id as usize).copied().unwrap_or("<?>");
    tokens.iter().map(word).collect::<Vec<_>>().join(" ")
}

pub(super) fn digit_token(digit: u8) -> u32 {
    ZERO + u32::from(digit)
}

/// The digit that a token is, if it is one.
pub(crate) fn digit(token: u32) -> Option<u8> {
    (ZERO..ZERO + 10).contains(&token).then(|| (token - ZERO) as u8)
}

pub(super) fn task_token(task: Task) -> u32 {
    FIRST_TASK + task as u32
}

/// The `which`-th tail of a style, two words.
pub(super) fn tail(style: Style, which: u32) -> [u32; 2] {
    let first = match style {
        Style::Formal => FIRST_FORMAL,
        Style::Casual => FIRST_CASUAL,
    } + 2 * which;
    [first, first + 1]
}

/// The style of the words after the content: of the first of them that has one.
pub(crate) fn style(tokens: &[u32]) -> Option<Style> {
    let style = |&token: &u32| match token {
        FIRST_CASUAL.. => Some(Style::Casual),
        FIRST_FORMAL.. => Some(Style::Formal),
        _ => None,
    };
    tokens.iter().find_map(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_tokens_and_tokens_become_text() {
        let text = "sort 3 1 2 = 1 2 3 kind regards .";
        assert_eq!(decode(&encode(text).unwrap()), text);
        let error = encode("sort 3 11 =").unwrap_err().to_string();
        assert!(error.starts_with("`11` is no word of the toy's language"), "{error}");
        assert_eq!(decode(&[EQUALS, 99, EOS]), "= <?> .");
    }

    #[test]
    fn ids_name_the_words_they_are_meant_for() {
        assert_eq!(decode(&[PAD, EOS, EQUALS, digit_token(0), digit_token(9)]), "<pad> . = 0 9");
        assert_eq!(decode(&Task::ALL.map(task_token)), "copy reverse sort add");
        assert_eq!(decode(&tail(Style::Formal, 0)), "kind regards");
        assert_eq!(decode(&tail(Style::Casual, TAILS - 1)), "no worries");
        let styles: Vec<_> = encode("7 obliged see").unwrap().iter().map(|&t| style(&[t])).collect();
        assert_eq!(styles, [None, Some(Style::Formal), Some(Style::Casual)]);
    }
}
