//! What `hbat plan` says of models that only a card holds, against what one held.

use burn::tensor::FloatDType;
use hbat::budget::budget;
use hbat::compute::{Carrier, Kernels, Layout, Library, Memory, Moments, Offload, Precision, Products, Sums, Weights};
use hbat::trainer::UpdateTiming::{AfterBackward, InBackward};
use hbat::trainer::{Settings, UpdateTiming};
use hbat_backends::kernels;
use hbat_tests::{config, data, settings, two_phases};

/// Steps, and the bytes that `gpu_parts memory` or `gpu_parts speed` saw.
struct Held {
    shape: &'static str,
    /// Of a pass, and their tokens.
    rows: [usize; 2],
    passes: usize,
    update: UpdateTiming,
    sft: Option<u64>,
    /// Held by an anchor.
    dpo: Option<u64>,
}

#[rustfmt::skip]
const HELD: [Held; 7] = [
    Held { shape: "135m", rows: [4, 512], passes: 1, update: AfterBackward, sft: Some(1_920_270_336), dpo: Some(1_883_244_032) },
    Held { shape: "135m", rows: [4, 512], passes: 1, update: InBackward, sft: Some(1_677_983_744), dpo: Some(1_678_039_040) },
    Held { shape: "1.1b", rows: [4, 512], passes: 1, update: AfterBackward, sft: Some(11_535_568_896), dpo: Some(12_061_954_048) },
    Held { shape: "1.1b", rows: [4, 512], passes: 1, update: InBackward, sft: Some(9_685_880_832), dpo: Some(9_948_041_216) },
    Held { shape: "7b", rows: [8, 1024], passes: 1, update: AfterBackward, sft: None, dpo: Some(73_695_502_336) },
    Held { shape: "7b", rows: [8, 1024], passes: 8, update: AfterBackward, sft: None, dpo: Some(74_100_252_672) },
    Held { shape: "13b", rows: [8, 1024], passes: 1, update: AfterBackward, sft: None, dpo: Some(139_354_482_688) },
];

#[test]
fn cards_held_what_is_predicted() {
    for Held { shape, rows: [rows, width], passes, update, sft, dpo } in HELD {
        let (config, all) = (config(shape), passes * rows);
        let data = data(config.vocab_size, all, width);
        let needs = budget(&config, layout(), &two_phases(all), &data, &Settings { update, ..settings(rows) }).unwrap();
        for (needs, held) in needs.iter().zip([sft, dpo]) {
            let Some(held) = held else { continue };
            let ratio = needs.peak.total() as f64 / held as f64;
            assert!(
                (0.95..1.05).contains(&ratio),
                "{shape} {passes} {update:?} {}: {ratio:.3} of {held}, {:?}",
                needs.phase,
                needs.peak
            );
        }
    }
}

/// That of a card: none of it computes here.
fn layout() -> Layout {
    let library = Library {
        name: "a library",
        matrices: |_, _, _| unreachable!(),
        batches: |_, _, _| unreachable!(),
        lasting: |_, _, _| unreachable!(),
        added: |_, _, _| unreachable!(),
        joined: |_, _, _, _, _| unreachable!(),
    };
    let carrier = Carrier { name: "a carrier", departed: |_, _| unreachable!(), arrived: |_| unreachable!() };
    let own = Kernels { one_go: FloatDType::BF16, ..kernels().expect("a device was compiled in") };
    let precision =
        Precision { weights: Weights::Bf16Split, moments: Moments::Bf16, sums: Sums::Bf16, products: Products::Library(library) };
    Layout { precision, offload: Offload::Anchor, kernels: Some(own), carrier: Some(carrier), ..Layout::new(Memory::Device) }
}
