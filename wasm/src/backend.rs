//! What can be trained on: this module's own loops, or the browser's GPU.

use burn::tensor::Device;
use hbat::compute::Compute;
use serde_json::json;
use wasm_bindgen::prelude::*;

/// Opens a backend, `cpu` or `webgpu`, and tells what it is, as JSON. Opening one again is nothing new.
///
/// # Errors
/// If the name is another, this module was built without WebGPU, or the browser has no GPU for it.
#[wasm_bindgen]
pub async fn prepare(backend: &str) -> Result<String, JsError> {
    let adapter = match backend {
        "cpu" => json!({ "backend": "cpu", "name": "WebAssembly with 128-bit vectors, one thread" }),
        "webgpu" => webgpu::open().await?,
        other => return Err(unknown(other)),
    };
    Ok(adapter.to_string())
}

/// A backend that [`prepare`] has opened.
pub(crate) fn compute(backend: &str) -> Result<Compute, JsError> {
    match backend {
        "cpu" => Ok(Compute::host(Device::flex())),
        "webgpu" => webgpu::opened(),
        other => Err(unknown(other)),
    }
}

fn unknown(backend: &str) -> JsError {
    JsError::new(&format!("`{backend}` is no backend: take `cpu` or `webgpu`"))
}

#[cfg(feature = "webgpu")]
mod webgpu {
    use std::cell::RefCell;

    use burn::tensor::Device;
    use hbat::compute::Compute;
    use serde_json::{Value, json};
    use wasm_bindgen::prelude::*;

    thread_local! {
        /// Burn's GPU can be opened but once.
        static OPENED: RefCell<Option<(Device, Value)>> = const { RefCell::new(None) };
    }

    pub(super) async fn open() -> Result<Value, JsError> {
        if let Some((_, adapter)) = OPENED.with_borrow(Clone::clone) {
            return Ok(adapter);
        }
        let (device, setup) = Device::wgpu_options().init_with_setup_async().await?;
        let info = setup.adapter.get_info();
        let name = if info.name.is_empty() { "a GPU whose name the browser keeps" } else { &info.name };
        let adapter = json!({ "backend": "webgpu", "name": name });
        OPENED.set(Some((device, adapter.clone())));
        Ok(adapter)
    }

    pub(super) fn opened() -> Result<Compute, JsError> {
        let device = OPENED.with_borrow(|opened| opened.as_ref().map(|(device, _)| device.clone()));
        device.map(Compute::device).ok_or_else(|| JsError::new("call `prepare(\"webgpu\")` first, and wait for it"))
    }
}

#[cfg(not(feature = "webgpu"))]
mod webgpu {
    use hbat::compute::Compute;
    use serde_json::Value;
    use wasm_bindgen::prelude::*;

    pub(super) async fn open() -> Result<Value, JsError> {
        Err(missing())
    }

    pub(super) fn opened() -> Result<Compute, JsError> {
        Err(missing())
    }

    fn missing() -> JsError {
        JsError::new("this module trains on the processor alone; load the one that was built with the feature `webgpu`")
    }
}
