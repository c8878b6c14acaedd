//! Sharing loops among threads. Chunks have a fixed size, so no result depends on who computed what.

use rayon::prelude::*;

/// Who works on a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The caller alone: the work is less than calling others costs.
    One,
    /// Everybody.
    All,
}

impl Threads {
    /// All for a pass over this many elements, if that is worth it.
    pub(super) fn for_elements(elements: usize) -> Self {
        if elements < 1 << 14 { Self::One } else { Self::All }
    }

    /// How many they are.
    pub(super) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::All => rayon::current_num_threads(),
        }
    }
}

/// Calls `task` with every chunk of `size` elements (the last may be shorter) and its number.
pub(super) fn in_chunks<T: Send>(threads: Threads, values: &mut [T], size: usize, task: impl Fn(usize, &mut [T]) + Sync) {
    match threads {
        Threads::One => values.chunks_mut(size).enumerate().for_each(|(i, chunk)| task(i, chunk)),
        Threads::All => values.par_chunks_mut(size).enumerate().for_each(|(i, chunk)| task(i, chunk)),
    }
}

/// The results of `task` for 0, 1, … `count` − 1, in this order.
pub(super) fn in_turn<R: Send>(threads: Threads, count: usize, task: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
    match threads {
        Threads::One => (0..count).map(task).collect(),
        Threads::All => (0..count).into_par_iter().map(task).collect(),
    }
}
