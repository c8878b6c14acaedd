//! The browser lab from the command line: recordings for its page, and a server for the page itself.

mod ends;
mod error;
mod page;
mod record;
mod serve;

pub use error::LabCommandError;
pub(crate) use record::record;
pub(crate) use serve::serve;
