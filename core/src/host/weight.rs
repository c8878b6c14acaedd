//! Between tensors and ordinary memory.

use burn::tensor::{Device, Tensor, TensorData};

use super::matrix::Matrix;

/// The elements of a tensor, in place where nobody else holds it.
#[derive(Debug)]
pub(super) struct Weight {
    data: TensorData,
    rows: usize,
    columns: usize,
}

impl Weight {
    /// Reads a tensor; a copy if it is shared, as a model's weights are.
    pub(super) fn new(tensor: Tensor<2>) -> Self {
        let [rows, columns] = tensor.dims();
        Self { data: tensor.into_data().convert::<f32>(), rows, columns }
    }

    /// Row by row.
    pub(super) fn values(&self) -> &[f32] {
        self.data.as_slice().expect("converted to f32")
    }

    /// The same, to be changed.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        self.data.as_mut_slice().expect("converted to f32")
    }

    /// A tensor of these elements.
    pub(super) fn into_tensor(self, device: &Device) -> Tensor<2> {
        Tensor::from_data(self.data, device)
    }

    /// Rows and columns.
    pub(super) fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// As a matrix.
    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.values(), self.rows, self.columns)
    }
}

/// A tensor of these values.
pub(super) fn tensor(values: Vec<f32>, dims: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, dims), device)
}
