//! From the command line's words to the readers' own.

use crate::args::Reading;
use crate::data::{CodecOptions, ReadOptions};

impl Reading {
    pub(super) fn codec(self) -> CodecOptions {
        CodecOptions { template: self.template, max_length: self.max_length, too_long: self.too_long }
    }

    pub(super) fn read(self, limit: Option<usize>) -> ReadOptions {
        ReadOptions { format: self.format.into(), limit, columns: Default::default() }
    }
}
