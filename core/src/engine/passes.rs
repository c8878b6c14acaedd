//! What the layer-by-layer passes are made of. Two implementations: on tensors, and on ordinary memory.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::tokens::Batch;

/// What the width of prompts is a multiple of.
const BUCKET: usize = 8;

/// Texts as the layers see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Texts {
    /// Token ids, row by row, padded on the right. `[rows · width]`
    pub(crate) tokens: Vec<i32>,
    /// Tokens of a row.
    pub(crate) width: usize,
    /// The flat positions of every text. Each is computed as if it were alone.
    pub(crate) spans: Vec<Range<usize>>,
}

impl Texts {
    /// The sequences of a batch.
    pub(crate) fn of(batch: &Batch) -> Self {
        Self { tokens: batch.tokens.clone(), width: batch.width, spans: batch.spans.clone() }
    }

    /// Prompts of different lengths. Their width is rounded up, for every other one is a new shape, for which a GPU prepares its kernels anew.
    pub(crate) fn prompts(texts: &[&[u32]]) -> Self {
        let width = texts.iter().map(|text| text.len()).max().unwrap_or(0).next_multiple_of(BUCKET);
        let padded = |text: &&[u32]| text.iter().map(|t| *t as i32).chain(std::iter::repeat(0)).take(width).collect::<Vec<_>>();
        let spans = texts.iter().enumerate().map(|(row, text)| row * width..row * width + text.len()).collect();
        Self { tokens: texts.iter().flat_map(padded).collect(), width, spans }
    }

    /// The same rows, each one text as far as it goes.
    pub(crate) fn whole_rows(self) -> Self {
        let rows = self.tokens.len() / self.width.max(1);
        let spans = (0..rows).map(|row| row * self.width..(row + 1) * self.width).collect();
        Self { spans, ..self }
    }

    /// The flat position of every text's last token.
    pub(crate) fn ends(&self) -> Vec<i32> {
        self.spans.iter().map(|span| span.end as i32 - 1).collect()
    }

    /// Whether a row holds more than one text, or one that does not begin with it.
    pub(crate) fn packed(&self) -> bool {
        self.spans.iter().enumerate().any(|(text, span)| span.start != text * self.width)
    }

    /// Every flat position's place in its text, 0 where there is only padding. `[rows · width]`
    pub(crate) fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.tokens.len()];
        for span in &self.spans {
            places[span.clone()].iter_mut().enumerate().for_each(|(place, out)| *out = place);
        }
        places
    }

    /// Which text every flat position belongs to, −1 where there is only padding. `[rows · width]`
    pub(crate) fn owners(&self) -> Vec<i32> {
        let mut owners = vec![-1; self.tokens.len()];
        for (text, span) in self.spans.iter().enumerate() {
            owners[span.clone()].fill(text as i32);
        }
        owners
    }
}

/// Brings back what was put away.
pub(crate) type BringBack<T> = Box<dyn FnOnce() -> T>;

/// The layers of a decoder over some texts, forward and backward.
pub(crate) trait Layers {
    /// The residual stream of all tokens.
    type Hidden: 'static;
    /// What a layer's backward pass needs besides the layer's input.
    type Kept;

    /// Token embeddings.
    fn embed(&self) -> Self::Hidden;

    /// A layer's output, and what its backward pass needs.
    fn forward(&self, layer: usize, input: &Self::Hidden) -> (Self::Hidden, Self::Kept);

    /// What a layer's backward pass needs, computed again.
    fn keep(&self, layer: usize, input: &Self::Hidden) -> Self::Kept;

    /// From the gradient of a layer's output to that of its input, and of its units in their order.
    fn backward(
        &self,
        layer: usize,
        input: Self::Hidden,
        kept: Self::Kept,
        gradient: Self::Hidden,
    ) -> (Self::Hidden, Vec<Tensor<2>>);

    /// Puts a layer's input away until the layer goes backward; the result brings it back.
    fn put_away(&self, input: Self::Hidden) -> BringBack<Self::Hidden> {
        Box::new(move || input)
    }

    /// Lets go of the embedding, once all tokens are embedded.
    fn release_embedding(&mut self);

    /// Lets go of a layer's weights, once it has gone backward.
    fn release(&mut self, layer: usize);

    /// The hidden states at padded positions, `[R, D]`.
    fn read(&self, hidden: Self::Hidden, positions: &[i32]) -> Tensor<2>;

    /// The transpose of [`read`](Self::read): adds each row to its position, and leaves the others zero.
    fn spread(&self, gradient: Tensor<2>, positions: &[i32]) -> Self::Hidden;

    /// Adds each token's gradient to its row of a table `[V, D]`.
    fn embed_backward(&self, table: Tensor<2>, gradient: Self::Hidden) -> Tensor<2>;
}

/// The final norm and what stands on it: from hidden states that are read to one score each.
pub(crate) trait Head {
    /// What the backward pass needs besides the hidden states.
    type Kept;

    /// The scores of hidden states `[C, D]` with the response tokens they are read for, `[C]`.
    fn forward(&self, read: Tensor<2>, targets: &[i32]) -> (Tensor<1>, Self::Kept);

    /// The gradient of the hidden states for `seeds` `[C]`; those of the weights are added up until [`gradients`](Self::gradients).
    fn backward(&mut self, read: Tensor<2>, kept: Self::Kept, targets: &[i32], seeds: Tensor<1>) -> Tensor<2>;

    /// The gradients of the weights after all chunks.
    fn gradients(self) -> HeadGradients;
}

/// Gradients of the final norm and of the weight above it, which may be the embedding.
pub(crate) struct HeadGradients {
    pub(crate) norm: Tensor<2>,
    pub(crate) weight: Tensor<2>,
}
