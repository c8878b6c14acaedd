//! Weights as one safetensors file in memory, in Hugging Face layout: for start models inside a program, and for browsers, which
//! have no files.

use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};

use super::{InitError, LlamaConfig, Policy, Storage, Unit};
use crate::compute::Compute;
use crate::error::Error;
use crate::slab::floats;

/// Why bytes are no weights of a model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FileError {
    /// No safetensors file, or one without a tensor that the model needs.
    #[error("the weights cannot be read: {0}; is this a safetensors file of this model?")]
    Unreadable(String),
    /// Numbers of another kind.
    #[error("tensor `{name}` has numbers of type {dtype}, where f32, f16 or bf16 would be understood")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// A tensor of another shape.
    #[error(transparent)]
    Shape(#[from] InitError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] Error),
}

impl From<SafeTensorError> for FileError {
    fn from(error: SafeTensorError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// A model from a safetensors file.
///
/// # Errors
/// If a tensor is missing, or of another type or shape.
pub fn from_safetensors(config: LlamaConfig, compute: Compute, bytes: &[u8]) -> Result<Policy, FileError> {
    let file = SafeTensors::deserialize(bytes)?;
    Policy::load(config, compute, |unit| values(unit, &file.tensor(&unit.name)?))
}

/// A model's weights as a safetensors file, f32.
///
/// # Errors
/// If the device fails.
pub async fn to_safetensors(policy: &Policy) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    for (index, unit) in policy.units().iter().enumerate() {
        let values = policy.values(index).await?;
        let values = match unit.storage {
            Storage::AsIs => values,
            Storage::Transposed => transposed(&values, unit.dims()),
        };
        bytes.push(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
    let mut views = Vec::with_capacity(bytes.len());
    for (unit, bytes) in policy.units().iter().zip(&bytes) {
        views.push((&unit.name, TensorView::new(Dtype::F32, unit.shape.clone(), bytes)?));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// A tensor of the file in the layout of [`Unit::dims`].
fn values(unit: &Unit, view: &TensorView<'_>) -> Result<TensorData, FileError> {
    let wrong =
        |found: &[usize]| InitError::Shape { name: unit.name.clone(), found: found.to_vec(), expected: unit.shape.clone() };
    if view.shape() != unit.shape {
        return Err(wrong(view.shape()).into());
    }
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => return Err(FileError::Dtype { name: unit.name.clone(), dtype: format!("{other:?}") }),
    };
    let values = floats(TensorData::from_bytes_vec(view.data().to_vec(), [unit.elements()], dtype))?;
    let values = match (unit.storage, unit.shape.as_slice()) {
        (Storage::Transposed, &[rows, columns]) => transposed(&values, [rows, columns]),
        _ => values,
    };
    Ok(TensorData::new(values, unit.dims()))
}

/// `[rows, columns]` → `[columns, rows]`.
fn transposed(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use pollster::block_on;

    use super::*;
    use crate::toy::random_policy;
    use crate::toy::skill::Size;

    fn bits(policy: &Policy) -> Vec<Vec<f32>> {
        policy.tensors().iter().map(|tensor| tensor.to_data().try_into_vec::<f32>().unwrap()).collect()
    }

    #[test]
    fn weights_survive_a_file_bit_by_bit() {
        let compute = Compute::host(Device::flex());
        let policy = random_policy(Size::Tiny.config(), compute.clone(), 3);
        let file = block_on(to_safetensors(&policy)).unwrap();
        let read = from_safetensors(Size::Tiny.config(), compute, &file).unwrap();
        assert_eq!(bits(&read), bits(&policy));
    }

    #[test]
    fn what_is_no_file_of_the_model_is_refused_in_words() {
        let compute = Compute::host(Device::flex());
        let refused = |config, bytes: &[u8]| from_safetensors(config, compute.clone(), bytes).unwrap_err().to_string();
        let error = refused(Size::Tiny.config(), b"GGUF");
        assert!(error.starts_with("the weights cannot be read: "), "{error}");
        let [_, (_, small)] = Size::Small.files();
        let error = refused(Size::Tiny.config(), small);
        assert!(error.contains("has the shape [37, 64] where the configuration needs [37, 48]"), "{error}");
    }
}
