//! What a run tells its user: progress while it trains, a table and a picture at its end, records for other programs.
//!
//! Everything here turns data into text, records or pixels. It computes nothing about the training itself.

mod bar;
mod display;
mod moment;
mod needs;
mod pace;
mod phrase;
mod plot;
mod records;
mod table;

pub use bar::Bar;
pub use display::{Display, Outline, PhaseOutline};
pub use moment::Moment;
pub use needs::{needs_line, needs_text};
pub(crate) use pace::kind;
pub(crate) use phrase::size;
pub use plot::{Curve, Picture, PlotError, StepLoss, plot, save_plot};
pub use records::{moment_record, phase_ended_record, phase_started_record, step_record};
pub use table::{markdown, table};
