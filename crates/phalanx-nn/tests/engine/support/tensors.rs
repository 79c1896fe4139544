//! The tensors that the reference programs wrote.

use safetensors::{Dtype, SafeTensors};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// A safetensors file, and which of its tensors were read.
pub(crate) struct Tensors {
    bytes: Vec<u8>,
    read: RefCell<BTreeSet<String>>,
}

/// A tensor as it was written: indices are whole numbers.
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

/// Whole numbers as indices.
pub(crate) fn indices(data: &[f64]) -> Vec<u32> {
    data.iter().map(|v| u32::try_from(*v as i64).unwrap()).collect()
}

impl Tensors {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Tensors { bytes, read: RefCell::default() }
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    pub(crate) fn get(&self, name: &str) -> Tensor {
        self.find(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    pub(crate) fn find(&self, name: &str) -> Option<Tensor> {
        let file = self.file();
        let tensor = file.tensor(name).ok()?;
        self.read.borrow_mut().insert(name.to_owned());
        let words = tensor.data().chunks_exact(8).map(|word| word.try_into().unwrap());
        let data = match tensor.dtype() {
            Dtype::F64 => words.map(f64::from_le_bytes).collect(),
            Dtype::I64 => words.map(|word| i64::from_le_bytes(word) as f64).collect(),
            other => panic!("{name} is of type {other:?}"),
        };
        Some(Tensor { shape: tensor.shape().to_vec(), data })
    }

    /// The names that nothing has read.
    pub(crate) fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        let names = self.file().names().into_iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        names.into_iter().filter(|name| !read.contains(name)).collect()
    }
}

/// The greatest difference, relative to the greatest number wanted.
pub(crate) fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-30_f64, |m, v| m.max(v.abs()));
    // `max` would lose a NaN
    let greater = |m: f64, v: f64| if v <= m { m } else { v };
    got.iter().zip(want).map(|(a, b)| (a - b).abs() / scale).fold(0.0, greater)
}
