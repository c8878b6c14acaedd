//! The core of hbat in a browser.
//!
//! So far: the toy model takes training steps, which is what CI compiles for wasm32 to keep the core free of files, clocks
//! and threads.
