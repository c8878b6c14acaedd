//! Units: the named parameter tensors that consolidation weighs one by one.

/// How a unit lies in memory compared with its Hugging Face tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// The same; a vector of n is kept as `[1, n]`.
    AsIs,
    /// `[out, in]` in the file, `[in, out]` here, so that a gradient falls out of its matrix product contiguous.
    Transposed,
}

/// One named parameter tensor of the Hugging Face layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its shape in a checkpoint, one or two sizes.
    pub shape: Vec<usize>,
    /// How it is kept here.
    pub storage: Storage,
}

impl Unit {
    /// A unit by its checkpoint name and shape.
    pub fn new(name: &str, shape: &[usize], storage: Storage) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), storage }
    }

    /// The shape of the tensor in memory.
    pub fn dims(&self) -> [usize; 2] {
        match (self.shape.as_slice(), self.storage) {
            (&[n], _) => [1, n],
            (&[out, input], Storage::Transposed) => [input, out],
            (&[rows, columns], Storage::AsIs) => [rows, columns],
            (shape, _) => unreachable!("unit {} has the shape {shape:?}", self.name),
        }
    }

    /// Number of elements, |θ_i|.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether weight decay leaves it alone, and it is f32 whatever matrices are: norms and biases, that is, vectors.
    pub fn is_vector(&self) -> bool {
        self.shape.len() == 1
    }
}
