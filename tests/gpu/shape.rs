//! Devices and who multiplies on them; models by their size, with random weights that cost no more than copying them.

use std::fmt;

use burn::tensor::{DType, Tensor, TensorData};
use hbat::compute::{Compute, Library, Moments, Offload, Sums, Weights};
use hbat::model::{InitError, LlamaConfig, Policy, Unit};
use hbat::random::{normal, stream};
use hbat_backends::{DeviceName, Full, cublas, open, start_cublas};
use hbat_cli::config::{EngineSection, KernelChoice, Matmul, RunFile, layout};

/// Who computes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) name: DeviceName,
    pub(crate) matmul: Matmul,
    kernels: KernelChoice,
    /// Of the narrow layout.
    offload: Offload,
}

impl Target {
    /// From the name of a device, and what is to be used there: `+cublas`, `+hbat`, `+burn` or `+resident`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut words = text.split('+');
        let name = words.next().unwrap_or_default().parse().unwrap_or_else(|error| panic!("{error}"));
        let mut target = Self { name, matmul: Matmul::Burn, kernels: KernelChoice::Auto, offload: Offload::Anchor };
        for word in words {
            match word {
                "cublas" => target.matmul = Matmul::Cublas,
                "hbat" => target.kernels = KernelChoice::Hbat,
                "burn" => target.kernels = KernelChoice::Burn,
                "resident" => target.offload = Offload::Nothing,
                other => panic!("+{other}: +cublas, +hbat, +burn or +resident"),
            }
        }
        target
    }

    /// As a run has it by default, in f32.
    pub(crate) fn plain(self) -> Compute {
        self.compute(RunFile::default().engine)
    }

    /// In the layout that fits 7 billion parameters into 80 GB, but for a resident anchor; `None` where the device does not compute in bf16.
    pub(crate) fn narrow(self) -> Option<Compute> {
        self.in_bf16(Weights::Bf16Split)
    }

    /// The same with weights kept otherwise.
    pub(crate) fn in_bf16(self, weights: Weights) -> Option<Compute> {
        let (moments, sums, offload) = (Moments::Bf16, Sums::Bf16, self.offload);
        let compute = self.compute(EngineSection { weights, moments, sums, offload, ..RunFile::default().engine });
        compute.device.supports_dtype(weights.dtype()).then_some(compute)
    }

    /// The narrow layout, or f32 where there is none.
    pub(crate) fn narrowest(self) -> Compute {
        self.narrow().unwrap_or_else(|| self.plain())
    }

    /// Its product of matrices, of one type into the same.
    pub(crate) fn multiply(self) -> fn(Tensor<2>, Tensor<2>) -> Tensor<2> {
        match self.matmul {
            Matmul::Auto | Matmul::Burn => Tensor::matmul,
            Matmul::Cublas => |left, right| {
                let to = left.dtype().into();
                (cublas(Full::F32).expect("it was started").matrices)(left, right, to)
            },
        }
    }

    /// The products of the library that it names.
    pub(crate) fn library(self) -> Library {
        self.start();
        cublas(Full::F32).expect("it was started")
    }

    fn start(self) {
        match self.matmul {
            Matmul::Auto | Matmul::Burn => {}
            Matmul::Cublas => start_cublas(self.name).unwrap_or_else(|error| panic!("{error}")),
        }
    }

    fn compute(self, engine: EngineSection) -> Compute {
        self.start();
        let device = open(self.name).unwrap_or_else(|error| panic!("{error}"));
        let engine = EngineSection { matmul: self.matmul, kernels: self.kernels, ..engine };
        Compute { device, layout: layout(self.name, &engine), watch: None }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        f.write_str(if self.matmul == Matmul::Cublas { "+cublas" } else { "" })?;
        f.write_str(match self.kernels {
            KernelChoice::Auto => "",
            KernelChoice::Burn => "+burn",
            KernelChoice::Hbat => "+hbat",
        })?;
        f.write_str(if self.offload == Offload::Nothing { "+resident" } else { "" })
    }
}

/// A model whose weights are one block of noise over and over, scaled as LLaMA initialises them; norms are near 1. They are numbers that bf16
/// holds, as those of published models are: what is compared is what is computed with them.
pub(crate) fn policy(config: LlamaConfig, compute: Compute) -> Policy {
    let mut rng = stream(0, "noise", &[]);
    let noise: Vec<f32> = (0..1_000_003).map(|_| 0.02 * normal(&mut rng) as f32).collect();
    let [matrices, vectors] = [0.0, 1.0].map(|offset| {
        let block: Vec<f32> = noise.iter().map(|value| offset + value).collect();
        let block = TensorData::new(block, [noise.len()]).convert_dtype(DType::BF16).convert::<f32>();
        block.try_into_vec::<f32>().expect("numbers")
    });
    let values = |unit: &Unit| {
        let block = if unit.is_vector() { &vectors } else { &matrices };
        let mut values = Vec::with_capacity(unit.elements());
        while values.len() < unit.elements() {
            let rest = unit.elements() - values.len();
            values.extend_from_slice(&block[..rest.min(block.len())]);
        }
        Ok::<_, InitError>(TensorData::new(values, unit.dims()))
    };
    Policy::load(config, compute, values).expect("shapes that fit")
}
