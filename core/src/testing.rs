//! What unit tests share.

/// Numbers in [-1, 1) that look random and are the same everywhere.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// The next of them.
    pub(crate) fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// The next `n`, times `scale`.
    pub(crate) fn values(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.next() * scale).collect()
    }

    /// `n` token ids below `vocabulary`.
    pub(crate) fn tokens(&mut self, n: usize, vocabulary: usize) -> Vec<u32> {
        (0..n).map(|_| ((self.next() + 1.0) / 2.0 * vocabulary as f32) as u32).collect()
    }
}
