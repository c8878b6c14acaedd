//! What a run tells its user: progress while it trains, a table and a picture at its end.
//!
//! Everything here turns data into text or pixels. It computes nothing about the training itself.

mod bar;
mod display;
mod needs;
mod pace;
mod phrase;
mod plot;
mod quantile;
mod table;

pub use bar::Bar;
pub use display::{Display, Outline, PhaseOutline};
pub use hbat::records::Moment;
pub use needs::{needs_line, needs_text};
pub(crate) use pace::kind;
pub(crate) use phrase::{counted, harmless, quoted, size, sizes};
pub use plot::{Curve, Picture, PlotError, StepLoss, plot, save_plot};
pub(crate) use quantile::quantile;
pub use table::{markdown, table};

/// Writes a line to standard error. That nobody takes it is no reason to stop what goes on.
pub(crate) fn tell(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
