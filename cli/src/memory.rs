//! The programs' allocator.

use libmimalloc_sys::{mi_option_get, mi_option_set_default, mi_option_t};

pub use mimalloc::MiMalloc as Allocator;

/// `mi_option_purge_delay` of mimalloc 3, which its bindings do not name.
const PURGE_DELAY: mi_option_t = 15;

/// What mimalloc waits before it returns memory, where nobody says otherwise.
const DEFAULT_MILLISECONDS: std::ffi::c_long = 1000;

/// Keeps freed memory for the next step instead of giving it back to the system, which would clear every page anew: a
/// quarter of a step's time. The environment's `MIMALLOC_PURGE_DELAY` has precedence. To be called before threads start.
pub fn keep_freed() {
    // SAFETY: both only read or write mimalloc's table of options, and no other thread runs yet.
    unsafe {
        if mi_option_get(PURGE_DELAY) == DEFAULT_MILLISECONDS {
            mi_option_set_default(PURGE_DELAY, -1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: nothing else in this process touches mimalloc's options.
        let value = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(value(), DEFAULT_MILLISECONDS);
        keep_freed();
        assert_eq!(value(), -1);
    }
}
