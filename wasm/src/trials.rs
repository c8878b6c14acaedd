//! Runs beside the lab: is the GPU right, and which β suits each method.

use hbat::lab::{self, LabSettings};
use serde_json::{Map, Value, json};
use wasm_bindgen::prelude::*;

use crate::backend::{compute, prepare};

/// Every setting by name, as JSON: its default, least, largest value and step or its choices, and what it does.
///
/// # Errors
/// None that is known.
#[wasm_bindgen]
pub fn defaults() -> Result<String, JsError> {
    let described = |field: lab::Field| Ok((field.name.to_owned(), serde_json::to_value(field)?));
    let fields: Result<Map<String, Value>, serde_json::Error> = lab::fields().into_iter().map(described).collect();
    Ok(Value::Object(fields?).to_string())
}

/// Trains HBAT on the GPU and on the processor for about `steps` steps (a multiple of four) and compares: JSON with the adapter, the
/// steps, and a row each for loss, gradients, importance and weights. `progress` is called with `{"done", "total"}` as JSON.
///
/// # Errors
/// If there is no GPU, a setting is out of range, or training fails.
#[wasm_bindgen]
pub async fn check_gpu(settings: &str, steps: usize, progress: &js_sys::Function) -> Result<String, JsError> {
    let settings: LabSettings = serde_json::from_str(settings)?;
    let adapter: Value = serde_json::from_str(&prepare("webgpu").await?)?;
    let computes = [compute("cpu")?, compute("webgpu")?];
    let agreement = lab::agreement(&settings, steps, computes, &mut telling(progress)).await?;
    Ok(json!({ "adapter": adapter, "steps": agreement.steps, "rows": agreement.rows }).to_string())
}

/// Trains every lane to its end with several values of β: JSON with what came of each, the best, and the front of all, per lane.
/// `progress` is called with `{"done", "total"}` as JSON.
///
/// # Errors
/// If a setting is out of range, or training fails.
#[wasm_bindgen]
pub async fn tune_beta(settings: &str, backend: &str, progress: &js_sys::Function) -> Result<String, JsError> {
    let settings: LabSettings = serde_json::from_str(settings)?;
    let tuned = lab::tune_beta(&settings, &compute(backend)?, &mut telling(progress)).await?;
    Ok(serde_json::to_string(&tuned)?)
}

/// Tells JavaScript how far a trial is; what it throws is its own affair.
pub(crate) fn telling(progress: &js_sys::Function) -> impl FnMut(usize, usize) {
    move |done, total| {
        let record = json!({ "done": done, "total": total }).to_string();
        let _ = progress.call1(&JsValue::NULL, &JsValue::from_str(&record));
    }
}
