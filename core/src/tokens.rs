//! Token sequences, the groups an objective looks at, and batches of them.
//!
//! Padding, packing and position arithmetic end here: objectives see one score per response token, in the order of
//! [`Batch::targets`], and know which sequence and group each belongs to.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Why a pair of token lists is no [`Sequence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// The first response token would have nothing to be predicted from.
    #[error("the prompt has no tokens; give it text or a beginning-of-sequence token")]
    EmptyPrompt,
    /// There is nothing to learn, and a mean over no tokens is not a number.
    #[error("the response has no tokens; remove the example or give it an answer")]
    EmptyResponse,
}

/// A prompt and the response to it. Only response tokens are scored and trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    tokens: Vec<u32>,
    prompt: usize,
}

impl Sequence {
    /// Joins a prompt and a response, tokenised apart from each other.
    ///
    /// # Errors
    /// If either is empty.
    pub fn new(prompt: Vec<u32>, response: &[u32]) -> Result<Self, SequenceError> {
        if prompt.is_empty() {
            return Err(SequenceError::EmptyPrompt);
        }
        if response.is_empty() {
            return Err(SequenceError::EmptyResponse);
        }
        let length = prompt.len();
        let mut tokens = prompt;
        tokens.extend_from_slice(response);
        Ok(Self { tokens, prompt: length })
    }

    /// All tokens, the prompt's first.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens of the prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt]
    }

    /// The tokens of the response, its end-of-sequence token included.
    pub fn response(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }
}

/// A named number per sequence or per response token that an objective needs besides the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Column {
    /// Σ log π_ref(y|x), one number per sequence.
    ReferenceLogProb,
    /// A reward or rank, one number per sequence.
    Reward,
    /// log π_old(y_t), one number per response token.
    OldLogProb,
    /// The advantage estimate, one number per response token.
    Advantage,
    /// The return a critic is fitted to, one number per response token.
    Return,
    /// The critic's value when the rollout was made, one number per response token.
    OldValue,
}

/// What must stay together in a batch: one demonstration, a preference pair (chosen first), or K answers to a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Where the example stands in its data set; messages and per-example output name it.
    pub index: usize,
    /// The sequences, in the order the objective expects.
    pub sequences: Vec<Sequence>,
    /// Numbers that came with the example, see [`Column`] for how many of each.
    pub columns: BTreeMap<Column, Vec<f32>>,
}

impl Group {
    /// A demonstration: one prompt, one response.
    pub fn demonstration(index: usize, sequence: Sequence) -> Self {
        Self { index, sequences: vec![sequence], columns: BTreeMap::new() }
    }

    /// A preference: the chosen and the rejected response to one prompt.
    pub fn preference(index: usize, chosen: Sequence, rejected: Sequence) -> Self {
        Self { index, sequences: vec![chosen, rejected], columns: BTreeMap::new() }
    }

    /// Number of response tokens over all sequences.
    pub fn response_tokens(&self) -> usize {
        self.sequences.iter().map(|s| s.response().len()).sum()
    }

    /// The longest sequence's number of tokens.
    pub fn longest(&self) -> usize {
        self.sequences.iter().map(|s| s.tokens.len()).max().unwrap_or(0)
    }
}

/// Where sequences of these lengths come to lie, in this order, in rows of `width` tokens: `(row, offset)` each, in the first row
/// that has room.
pub fn packed(lengths: impl IntoIterator<Item = usize>, width: usize) -> Vec<(usize, usize)> {
    let mut filled: Vec<usize> = Vec::new();
    let mut place = |length: usize| {
        let row = filled.iter().position(|filled| filled + length <= width).unwrap_or(filled.len());
        if row == filled.len() {
            filled.push(0);
        }
        let offset = filled[row];
        filled[row] += length;
        (row, offset)
    };
    lengths.into_iter().map(&mut place).collect()
}

/// Groups laid out for one forward pass: right-padded, with the flat positions that are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Token ids, row by row, padded with 0 on the right. `[rows * width]`
    pub tokens: Vec<i32>,
    /// Number of rows: of sequences, unless they are packed.
    pub rows: usize,
    /// Tokens of a row.
    pub width: usize,
    /// The flat positions of each sequence.
    pub spans: Vec<Range<usize>>,
    /// Flat position (row · width + t − 1) of the hidden state that predicts each response token. `[R]`
    pub reads: Vec<i32>,
    /// The response tokens themselves. `[R]`
    pub targets: Vec<i32>,
    /// Where in `[R]` each sequence's response tokens lie.
    pub sequences: Vec<Range<usize>>,
    /// Which sequences form each group.
    pub groups: Vec<Range<usize>>,
    /// The examples' places in their data set, one per group.
    pub indices: Vec<usize>,
    /// Concatenated columns, one number per sequence or per response token.
    pub columns: BTreeMap<Column, Vec<f32>>,
}

impl Batch {
    /// Lays groups out; the width is rounded up to a multiple of `bucket`, so that kernels see few shapes.
    pub fn new<'a>(groups: impl IntoIterator<Item = &'a Group>, bucket: usize) -> Self {
        let groups: Vec<&Group> = groups.into_iter().collect();
        let longest = groups.iter().map(|g| g.longest()).max().unwrap_or(0);
        let places = (0..).map(|row| (row, 0));
        Self::laid_out(&groups, longest.next_multiple_of(bucket.max(1)), places)
    }

    /// Lays groups out in rows of `width` tokens, several sequences in each; wider where one needs it. Every sequence is computed as
    /// if it were alone.
    pub fn packed<'a>(groups: impl IntoIterator<Item = &'a Group>, width: usize) -> Self {
        let groups: Vec<&Group> = groups.into_iter().collect();
        let lengths: Vec<usize> = groups.iter().flat_map(|g| &g.sequences).map(|s| s.tokens.len()).collect();
        let width = lengths.iter().copied().max().unwrap_or(0).max(width);
        Self::laid_out(&groups, width, packed(lengths, width))
    }

    fn laid_out(groups: &[&Group], width: usize, places: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut batch = Self::empty(width);
        let mut places = places.into_iter();
        for group in groups {
            batch.push(group, &mut places);
        }
        batch
    }

    fn empty(width: usize) -> Self {
        Self {
            tokens: Vec::new(),
            rows: 0,
            width,
            spans: Vec::new(),
            reads: Vec::new(),
            targets: Vec::new(),
            sequences: Vec::new(),
            groups: Vec::new(),
            indices: Vec::new(),
            columns: BTreeMap::new(),
        }
    }

    fn push(&mut self, group: &Group, places: &mut impl Iterator<Item = (usize, usize)>) {
        let first = self.sequences.len();
        for (sequence, place) in group.sequences.iter().zip(places) {
            self.push_sequence(sequence, place);
        }
        self.groups.push(first..self.sequences.len());
        self.indices.push(group.index);
        for (column, values) in &group.columns {
            self.columns.entry(*column).or_default().extend_from_slice(values);
        }
    }

    fn push_sequence(&mut self, sequence: &Sequence, (row, offset): (usize, usize)) {
        self.rows = self.rows.max(row + 1);
        self.tokens.resize(self.rows * self.width, 0);
        let (start, from) = (row * self.width + offset, self.targets.len());
        let span = start..start + sequence.tokens.len();
        self.tokens[span.clone()].iter_mut().zip(&sequence.tokens).for_each(|(out, &token)| *out = token as i32);
        self.spans.push(span);
        for (offset, &token) in sequence.response().iter().enumerate() {
            self.reads.push((start + sequence.prompt + offset - 1) as i32);
            self.targets.push(token as i32);
        }
        self.sequences.push(from..self.targets.len());
    }

    /// Number of response tokens, R.
    pub fn response_tokens(&self) -> usize {
        self.targets.len()
    }

    /// A column that the objective cannot do without.
    ///
    /// # Panics
    /// If the batch does not carry it: the source that built the batch is wrong, no input of a user can cause it.
    pub fn column(&self, column: Column) -> &[f32] {
        self.columns.get(&column).unwrap_or_else(|| panic!("the batch carries no {column:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(prompt: &[u32], response: &[u32]) -> Sequence {
        Sequence::new(prompt.to_vec(), response).unwrap()
    }

    #[test]
    fn a_response_token_is_read_one_position_before_it_stands() {
        let group = Group::preference(7, sequence(&[1, 2], &[3, 4]), sequence(&[1, 2], &[5]));
        let batch = Batch::new([&group], 4);
        assert_eq!((batch.rows, batch.width), (2, 4));
        assert_eq!(batch.tokens, [1, 2, 3, 4, 1, 2, 5, 0]);
        assert_eq!(batch.reads, [1, 2, 5]);
        assert_eq!(batch.targets, [3, 4, 5]);
        assert_eq!(batch.sequences, [0..2, 2..3]);
        assert_eq!((batch.groups.len(), batch.groups[0].clone(), batch.indices), (1, 0..2, vec![7]));
    }

    #[test]
    fn packed_sequences_share_rows() {
        assert_eq!(packed([4, 5, 3, 2], 8), [(0, 0), (1, 0), (0, 4), (1, 5)]);
        let group = Group::preference(7, sequence(&[1, 2], &[3, 4]), sequence(&[1, 2], &[5]));
        let batch = Batch::packed([&group], 8);
        assert_eq!((batch.rows, batch.width), (1, 8));
        assert_eq!(batch.tokens, [1, 2, 3, 4, 1, 2, 5, 0]);
        assert_eq!((batch.spans, batch.reads, batch.targets), (vec![0..4, 4..7], vec![1, 2, 5], vec![3, 4, 5]));
        assert_eq!((batch.sequences, batch.groups[0].clone()), (vec![0..2, 2..3], 0..2));
        assert_eq!(Batch::packed([&group], 2).width, 4, "rows are as wide as the longest sequence");
    }

    #[test]
    fn sequences_without_prompt_or_response_are_refused() {
        assert_eq!(Sequence::new(vec![], &[1]), Err(SequenceError::EmptyPrompt));
        assert_eq!(Sequence::new(vec![1], &[]), Err(SequenceError::EmptyResponse));
    }
}
