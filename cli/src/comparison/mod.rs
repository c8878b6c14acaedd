//! Two models' answers to the same prompts, compared: by a reward model, by a language model behind an API, by the words they share.

mod endpoint;
mod error;
mod judge;
mod length;
mod question;
mod report;
mod rouge;
mod tally;
mod verdicts;

pub use endpoint::{Endpoint, EndpointOptions};
pub use error::JudgeError;
pub use judge::{Judge, JudgeSettings};
pub use question::{Order, Question};
pub use report::{ByJudge, ByReward, Compared, Report, Side};
pub use rouge::{Rouge, RougeScore, rouge};
pub use tally::{Tally, Verdict};
pub use verdicts::Verdicts;
