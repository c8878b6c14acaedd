//! The lab as JavaScript sees it.

use hbat::lab::{self, LabSettings};
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::backend::compute;
use crate::trials::telling;

/// Methods that are trained side by side. One call at a time: wait for each before the next.
#[wasm_bindgen]
pub struct Lab(lab::Lab);

#[wasm_bindgen]
impl Lab {
    /// A lab at its start, from settings as JSON; those not given have their default. While the judge of answers is trained, `progress` is called
    /// with `{"done", "total"}` as JSON.
    ///
    /// # Errors
    /// If a setting is unknown or out of range, or the device fails.
    pub async fn create(settings: &str, backend: &str, progress: &js_sys::Function) -> Result<Lab, JsError> {
        let settings: LabSettings = serde_json::from_str(settings)?;
        let mut tell = telling(progress);
        let mut progress = |done, total| {
            tell(done, total);
            Ok::<_, lab::LabError>(())
        };
        Ok(Self(lab::Lab::prepared(settings, compute(backend)?, &mut progress).await?))
    }

    /// A lab as it was when the snapshot was taken.
    ///
    /// # Errors
    /// If the bytes are no snapshot, or the device fails.
    pub async fn restore(bytes: &[u8], backend: &str) -> Result<Lab, JsError> {
        Ok(Self(lab::Lab::restore(bytes, compute(backend)?).await?))
    }

    /// The header as JSON.
    ///
    /// # Errors
    /// None that is known.
    pub fn header(&self) -> Result<String, JsError> {
        Ok(serde_json::to_string(&self.0.header())?)
    }

    /// Does a lane's next piece of work, at most one optimizer step and what is measured after it: a JSON array of frames.
    ///
    /// # Errors
    /// If there is no such lane, or training fails.
    pub async fn advance(&mut self, lane: usize) -> Result<String, JsError> {
        Ok(serde_json::to_string(&self.0.advance(lane).await?)?)
    }

    /// A lane's answer to a prompt: `{"tokens": […]}`.
    ///
    /// # Errors
    /// If there is no such lane, or the prompt cannot be read.
    pub async fn generate(&self, lane: usize, prompt: &str) -> Result<String, JsError> {
        Ok(json!({ "tokens": self.0.generate(lane, prompt).await? }).to_string())
    }

    /// Everything, for [`restore`](Self::restore).
    ///
    /// # Errors
    /// If the device fails.
    pub async fn snapshot(&self) -> Result<Vec<u8>, JsError> {
        Ok(self.0.snapshot().await?)
    }

    /// A lane's weights as a safetensors file in Hugging Face layout.
    ///
    /// # Errors
    /// If there is no such lane, or the device fails.
    pub async fn export_safetensors(&self, lane: usize) -> Result<Vec<u8>, JsError> {
        Ok(self.0.safetensors(lane).await?)
    }

    /// The run file with which `hbat train` repeats a lane.
    ///
    /// # Errors
    /// If there is no such lane.
    pub fn run_toml(&self, lane: usize) -> Result<String, JsError> {
        Ok(self.0.run_file(lane)?)
    }

    /// The run file with which `hbat train` repeats the judge; nothing where there is none.
    pub fn judge_toml(&self) -> Option<String> {
        self.0.judge_file()
    }

    /// What a lane did so far, as lines of `metrics.jsonl`.
    ///
    /// # Errors
    /// If there is no such lane.
    pub fn metrics_jsonl(&self, lane: usize) -> Result<String, JsError> {
        Ok(self.0.metrics(lane)?)
    }

    /// Whether a lane has done all its phases.
    ///
    /// # Errors
    /// If there is no such lane.
    pub fn finished(&self, lane: usize) -> Result<bool, JsError> {
        Ok(self.0.finished(lane)?)
    }
}
