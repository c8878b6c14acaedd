//! From the command line's words to the readers' own.

use crate::args::{CodecReading, Reading};
use crate::data::{CodecOptions, ReadOptions};

/// Sequence lengths are padded to a multiple of this.
pub(super) const BUCKET: usize = 8;

impl Reading {
    pub(super) fn read(self, limit: Option<usize>) -> ReadOptions {
        ReadOptions { format: self.format.into(), limit, columns: Default::default() }
    }
}

impl CodecReading {
    pub(super) fn codec(self) -> CodecOptions {
        CodecOptions { template: self.template, max_length: self.max_length, too_long: self.too_long }
    }
}
