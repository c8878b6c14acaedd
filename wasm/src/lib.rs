//! The lab for browsers: [`hbat::lab`] behind functions that JavaScript calls. Nothing is computed here.
//!
//! Everything goes in and out as JSON text, but for bytes. Call `prepare` once for a backend before the first lab on it.
//! Errors are JavaScript errors in words. `wasm/build` makes the module.

mod backend;
mod lab;
mod trials;

pub use backend::prepare;
pub use lab::Lab;
pub use trials::{check_gpu, defaults, tune_beta};

use wasm_bindgen::prelude::*;

/// What the module does when it is loaded: from now on a panic is a JavaScript error that says what happened, instead of
/// `unreachable executed`.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| wasm_bindgen::throw_str(&format!("the module failed: {info}"))));
}
