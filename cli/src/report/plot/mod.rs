//! The picture of a run: the plane of the two objectives with every method's trajectory, and the training losses.
//!
//! Drawn into memory with a font of its own: no display, no fonts of the system.

mod axis;
mod canvas;
mod frame;
mod geometry;
mod labels;
mod legend;
mod losses;
mod mark;
mod phases;
mod plane;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Moment;
use super::table::methods;
use canvas::{SIZE, Type};
use frame::{DARK, GREY};
use geometry::Rect;
use legend::Legend;
use losses::Losses;
use mark::Methods;
use plane::Plane;

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picture<'a> {
    /// The heading.
    pub title: &'a str,
    /// Where the methods were on the plane. Moments that lack an objective are left out.
    pub moments: &'a [Moment],
    /// The losses while they trained.
    pub curves: &'a [Curve],
}

/// The training losses of one method.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The method, named as in [`Moment::method`].
    pub method: String,
    /// Its steps, in order.
    pub steps: Vec<StepLoss>,
}

/// The loss of one optimizer step; a `step` record of `metrics.jsonl` reads as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLoss {
    /// The phase, such as "dpo-2".
    pub phase: String,
    /// The objective that was trained.
    pub objective: String,
    /// Which step of the run, from 1.
    pub global_step: usize,
    /// Its loss; `None` where it was no number.
    pub loss: Option<f64>,
    /// Of PPO, the mean score of its answers.
    #[serde(default)]
    pub score: Option<f64>,
}

impl StepLoss {
    /// What is drawn: the loss, but of answers the score, which says more.
    fn shown(&self) -> Option<f64> {
        self.score.or(self.loss).filter(|shown| shown.is_finite())
    }
}

/// Why there is no picture.
#[derive(Debug, Error)]
pub enum PlotError {
    /// Neither moments nor curves have a point to show.
    #[error("nothing to plot: no moment with both objectives evaluated, and no training step")]
    Nothing,
    /// The embedded font cannot be read.
    #[error("the embedded font is damaged; build the program anew")]
    Font,
    /// Drawing failed.
    #[error("the plot cannot be drawn: {0}")]
    Draw(String),
    /// The pixels could not be encoded.
    #[error("the plot cannot be encoded as PNG: {0}")]
    Encode(#[from] png::EncodingError),
    /// The file could not be written.
    #[error("{}: cannot write the plot: {source}; check the free space and the permissions of its folder", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The picture as PNG, 1200×800 points at two pixels per point. The same data give the same bytes.
///
/// # Errors
/// If there is nothing to show, or drawing fails.
pub fn plot(picture: &Picture<'_>) -> Result<Vec<u8>, PlotError> {
    let methods = Methods::of(picture);
    let plane = Plane::of(picture.moments, &methods);
    let losses = Losses::of(picture.curves, &methods);
    if plane.is_none() && losses.is_none() {
        return Err(PlotError::Nothing);
    }
    canvas::png(|canvas| {
        let (right, text) = (SIZE.0 - 36.0, Type::new(22.0, DARK).bold());
        canvas.text(&text.cut(picture.title, right - 36.0), (36.0, 46.0), text)?;
        canvas.text(subtitle(plane.as_ref()), (36.0, 68.0), Type::new(12.5, GREY))?;
        let legend = Legend::of(&methods, plane.as_ref());
        let top = legend.draw(canvas, Rect { left: 36.0, top: 84.0, right, bottom: SIZE.1 })? + 40.0;
        let middle = if losses.is_none() { right } else { 738.0 };
        if let Some(plane) = &plane {
            plane.draw(canvas, Rect { left: 84.0, top, right: middle, bottom: SIZE.1 - 62.0 })?;
        }
        let left = if plane.is_none() { 84.0 } else { 812.0 };
        losses.iter().try_for_each(|losses| losses.draw(canvas, Rect { left, top, right, bottom: SIZE.1 - 62.0 }))
    })
}

/// Writes the picture to a file: aside first, so that a file is there whole or not at all.
///
/// # Errors
/// If there is nothing to show, drawing fails, or the file cannot be written.
pub fn save_plot(picture: &Picture<'_>, path: &Path) -> Result<(), PlotError> {
    let bytes = plot(picture)?;
    let mut aside = path.as_os_str().to_os_string();
    aside.push(".part");
    let written = std::fs::write(&aside, &bytes).and_then(|()| std::fs::rename(&aside, path));
    written.map_err(|source| {
        // What there is of it is of no use; that it cannot be removed either would be no news.
        let _ = std::fs::remove_file(&aside);
        PlotError::Write { path: path.to_path_buf(), source }
    })
}

fn subtitle(plane: Option<&Plane<'_>>) -> &'static str {
    match plane {
        Some(_) => {
            "Each trajectory leads from the ring at the start through a mark after every phase to the large mark at its end."
        }
        None => "Training losses; no moment was evaluated on both objectives.",
    }
}

#[cfg(test)]
mod tests;
