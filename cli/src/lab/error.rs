//! Why a recording or the page cannot be had.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What is wrong with what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LabCommandError {
    /// A `--set` that is none.
    #[error("--set {given}: write KEY=VALUE, such as beta=0.3; the keys are: {keys}")]
    Assignment {
        /// What was given.
        given: String,
        /// What would be understood.
        keys: String,
    },
    /// A value of the wrong kind.
    #[error("--set {given}: {reason}")]
    Value {
        /// What was given.
        given: String,
        /// Why it is refused.
        reason: String,
    },
    /// A file that cannot be written.
    #[error("{}: cannot be written: {reason}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// One file for two things.
    #[error("--ghosts {}: that is where --output goes; name another file", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// No page was built in.
    #[error(
        "this hbat has no page inside. Build one and name it: `wasm/build`, then `npm ci && npm run build` in wasm/www, then \
         `hbat lab --dir wasm/www/dist`; or build hbat with `--features lab` after that"
    )]
    NoPage,
    /// A folder without a page.
    #[error("--dir {}: there is no index.html in it; `npm run build` in wasm/www makes wasm/www/dist", .0.display())]
    NoIndex(PathBuf),
    /// Somebody else listens there, or nobody may.
    #[error("cannot listen at {address}: {reason}. Choose another --port, or 0 for any that is free")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        reason: std::io::Error,
    },
}
