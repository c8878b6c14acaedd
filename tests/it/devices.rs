//! Every device that this build and machine offer computes what the CPU computes, and the others say why they cannot.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use hbat_backends::{DeviceName, DeviceReport, HardwareKind, list, open};

use crate::support::skip;

fn cpu() -> Device {
    open(DeviceName::Cpu).expect("the CPU is always there")
}

/// The devices beside the CPU that work here; records a skip if there are none.
fn accelerators() -> Vec<(DeviceReport, Device)> {
    let others = list().into_iter().filter(|report| report.name != DeviceName::Cpu && report.hardware.is_ok());
    let found: Vec<_> = others.map(|report| (open(report.name).expect("a listed device opens"), report)).collect();
    if found.is_empty() {
        let reasons: Vec<String> = list().into_iter().filter_map(|report| Some(report.hardware.err()?.to_string())).collect();
        skip(&reasons.join("; "));
    }
    found.into_iter().map(|(device, report)| (report, device)).collect()
}

/// Numbers in [-1, 1) that look random and are the same everywhere.
fn noise(seed: u64, shape: [usize; 2]) -> TensorData {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    TensorData::new((0..shape[0] * shape[1]).map(|_| next()).collect::<Vec<f32>>(), shape)
}

/// softmax(x·w)·v and the gradients of a weighted sum of it: what attention does, in small.
fn program(device: &Device) -> [TensorData; 3] {
    let device = device.clone().autodiff();
    let [rows, inner, columns] = [37, 24, 65]; // no multiples of any tile
    let x = Tensor::<2>::from_data(noise(1, [rows, inner]), &device).require_grad();
    let w = Tensor::<2>::from_data(noise(2, [inner, columns]), &device).require_grad();
    let v = Tensor::<2>::from_data(noise(3, [columns, rows]), &device);
    let weights = Tensor::<2>::from_data(noise(4, [rows, rows]), &device);
    let out = softmax(x.clone().matmul(w.clone()) * 0.5, 1).matmul(v);
    let gradients = (out.clone() * weights).sum().backward();
    let gradient = |of: &Tensor<2>| of.grad(&gradients).expect("x and w take part").into_data();
    [out.into_data(), gradient(&x), gradient(&w)]
}

#[test]
fn the_cpu_is_listed_first_and_opens() {
    let reports = list();
    assert_eq!(reports[0].name, DeviceName::Cpu);
    assert_eq!(reports[0].hardware.as_ref().map(|hardware| hardware.kind), Ok(HardwareKind::Cpu));
    assert_eq!(cpu(), Device::flex());
}

#[test]
fn every_backend_is_listed_with_what_it_offers_or_how_to_get_it() {
    for backend in ["cpu", "wgpu", "cuda"] {
        let reports: Vec<_> = list().into_iter().filter(|report| report.name.to_string().starts_with(backend)).collect();
        assert!(!reports.is_empty(), "{backend} is not listed");
        for report in reports {
            match &report.hardware {
                Ok(hardware) => assert!(hardware.dtypes.contains(&burn::tensor::FloatDType::F32), "{report}"),
                Err(error) => assert!(!error.reason().is_empty() && error.remedy().contains('`'), "{report}"),
            }
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error_and_no_panic() {
    for name in ["wgpu:97", "cuda:97"] {
        let error = open(name.parse().unwrap()).expect_err("no machine has that many");
        assert!(error.to_string().starts_with(&format!("device {name}: ")), "{error}");
    }
}

#[test]
fn opening_a_device_twice_gives_the_same_device() {
    for report in list().into_iter().filter(|report| report.hardware.is_ok()) {
        assert_eq!(open(report.name), open(report.name));
    }
}

#[test]
fn every_device_computes_what_the_cpu_computes() {
    let expect = program(&cpu());
    for (report, device) in accelerators() {
        // TF32 products, which CUDA may choose, keep 10 bits.
        let relative = if matches!(report.name, DeviceName::Cuda(_)) { 5e-3 } else { 1e-4 };
        for (found, expected) in program(&device).iter().zip(&expect) {
            found.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(relative, relative * 1e-2));
        }
    }
}

#[test]
fn products_of_f32_are_not_rounded_to_fewer_bits() {
    // 1 + 2⁻²⁰ is a number in f32 and is 1 in TF32, f16 and bf16. A permuted diagonal makes every sum exact.
    let size = 128;
    let fine = 1.0 + f32::powi(2.0, -20);
    let mut diagonal = vec![0.0; size * size];
    (0..size).for_each(|row| diagonal[row * size + (row * 5 + 3) % size] = fine);
    for (report, device) in accelerators() {
        if matches!(report.name, DeviceName::Cuda(_)) {
            continue; // stated in its report
        }
        let ones = Tensor::<2>::ones([size, size], &device);
        let product = Tensor::<2>::from_data(TensorData::new(diagonal.clone(), [size, size]), &device).matmul(ones);
        product.into_data().assert_eq(&TensorData::new(vec![fine; size * size], [size, size]), true);
    }
}
