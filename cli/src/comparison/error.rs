//! Why a judge's verdicts cannot be had.

use std::path::PathBuf;

/// What is wrong with a judge, its question or the file of its verdicts.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A template that asks nothing.
    #[error("--question {question}: {reason}")]
    Question {
        /// Its name or file.
        question: String,
        /// What is wrong.
        reason: String,
    },
    /// An address that is none.
    #[error("--judge {url}: {reason}; give the beginning of an OpenAI-compatible API, such as http://localhost:8000/v1")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Fields for requests that are no JSON object.
    #[error("--request {given}: {reason}; give a JSON object, such as {{\"temperature\": null, \"max_tokens\": 512}}")]
    Request {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Encryption cannot be had.
    #[error("https cannot be spoken here ({reason}); install the system's certificates (Debian's package ca-certificates)")]
    Encryption {
        /// What is missing.
        reason: String,
    },
    /// A key that no header can carry.
    #[error("OPENAI_API_KEY holds characters that no HTTP header may have; set it to the key alone")]
    Key,
    /// The judge answers, and will not judge.
    #[error("{url} refuses (HTTP {status}): {message}")]
    Refused {
        /// What was asked.
        url: String,
        /// HTTP's status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// Nobody answers, or something else than a judge.
    #[error(
        "no verdict from {url} after {}: {reason}. Replies so far are in the file of --verdicts, if one was named",
        if *tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") }
    )]
    Silent {
        /// What was asked.
        url: String,
        /// How often.
        tries: u32,
        /// What happened the last time.
        reason: String,
    },
    /// The file of verdicts cannot be used.
    #[error("{}: {reason}", .path.display())]
    Verdicts {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl JudgeError {
    /// Whether other questions may still be answered.
    pub(super) fn is_of_one_question(&self) -> bool {
        // Not: a wrong key, a judge that is not there.
        matches!(self, Self::Refused { status, .. } if ![401, 403, 404].contains(status))
    }
}
