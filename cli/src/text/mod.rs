//! Text to tokens and back: a model's tokenizer and its chat template.
//!
//! Nothing here knows about data sets or objectives. What is rendered and tokenised equals what `transformers` makes of the same
//! directory; the integration tests compare digests over whole data sets.

mod error;
mod jinja;
mod json;
mod message;
mod template;
mod tokenizer;

pub use error::TextError;
pub(crate) use error::{excerpt, tail};
pub(crate) use message::describe;
pub use message::{Message, MessageFault, Role};
pub use template::{ChatTemplate, Generation};
pub use tokenizer::{Special, Tokenizer};
