//! Texts that go on, against the same texts read anew after every token.

use super::*;
use crate::compute::{Precision, Weights};
use crate::engine::{Continued, begin};

/// Texts that a policy reads token by token, and all that it has read.
struct Read<'a> {
    policy: &'a Policy,
    texts: Vec<Vec<u32>>,
    continued: Box<dyn Continued + Send>,
    tolerance: f32,
}

impl<'a> Read<'a> {
    fn begin(policy: &'a Policy, lengths: &[usize], tolerance: f32) -> Self {
        let texts: Vec<Vec<u32>> = lengths.iter().map(|length| Noise(*length as u64).tokens(*length, 37)).collect();
        let (continued, logits) = begin(policy, &prompts(&texts));
        let read = Self { policy, texts, continued, tolerance };
        read.compare(&logits);
        read
    }

    fn step(&mut self, noise: &mut Noise) {
        let tokens = noise.tokens(self.texts.len(), 37);
        self.texts.iter_mut().zip(&tokens).for_each(|(text, token)| text.push(*token));
        let logits = self.continued.step(&tokens.iter().map(|token| *token as i32).collect::<Vec<_>>());
        self.compare(&logits);
    }

    fn keep(&mut self, open: &[bool]) {
        self.continued.keep(open);
        let kept = self.texts.iter().zip(open).filter(|(_, open)| **open);
        self.texts = kept.map(|(text, _)| text.clone()).collect();
    }

    #[track_caller]
    fn compare(&self, found: &Tensor<2>) {
        let texts = prompts(&self.texts);
        let expected = values(&wide(super::super::logits(self.policy, &texts, &texts.ends())));
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let found = values(&wide(found.clone()));
        assert_eq!(found.len(), self.texts.len() * 37);
        let off = found.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        let length = self.texts[0].len();
        assert!(largest > 0.0 && off <= self.tolerance * largest, "off by {off:e} of {largest:e} after {length} tokens");
    }
}

fn prompts(texts: &[Vec<u32>]) -> Texts {
    Texts::prompts(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn wide(x: Tensor<2>) -> Tensor<2> {
    crate::kernel::wide(x)
}

/// From one token to more than two buckets of columns, while texts are let go of.
fn go_on(policy: &Policy, tolerance: f32) {
    let mut noise = Noise(13);
    let mut read = Read::begin(policy, &[1, 57, 9, 3, 20], tolerance);
    for step in 0..80 {
        match step {
            5 => read.keep(&[true, true, false, true, true]),
            30 => read.keep(&[true, false, false, true]),
            _ => {}
        }
        read.step(&mut noise);
    }
    assert_eq!(read.texts.iter().map(Vec::len).collect::<Vec<_>>(), [81, 100]);
}

#[test]
fn texts_that_go_on_have_the_logits_of_texts_read_anew() {
    models().iter().for_each(|policy| go_on(policy, 1e-5));
}

#[test]
fn texts_that_go_on_in_bf16_have_the_logits_of_texts_read_anew() {
    for weights in [Weights::Bf16Split, Weights::Bf16Master] {
        let compute = Compute::device(Device::flex()).with(Precision { weights, ..Precision::default() });
        [GROUPED, BIASED, STRETCHED].into_iter().for_each(|extra| go_on(&model(extra, compute.clone(), 0.5), 2e-2));
    }
}

#[test]
fn prompts_as_wide_as_their_columns_go_on() {
    for policy in models() {
        let (mut noise, mut read) = (Noise(17), Read::begin(&policy, &[64, 2], 1e-5));
        (0..3).for_each(|_| read.step(&mut noise));
    }
}

#[test]
fn ordinary_memory_lets_go_of_a_text_at_once_and_a_device_of_half_of_them() {
    let [host, device] = computes().map(|compute| model(GROUPED, compute, 0.5));
    let pays = |policy, open| begin(policy, &prompts(&vec![vec![1]; 5])).0.pays(open);
    assert_eq!([5, 4, 3, 2].map(|open| pays(&host, open)), [false, true, true, true]);
    assert_eq!([5, 4, 3, 2].map(|open| pays(&device, open)), [false, false, false, true]);
}
