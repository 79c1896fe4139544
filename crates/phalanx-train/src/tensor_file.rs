//! Named tensors in safetensors files that PyTorch, Hugging Face, Candle and Burn read.
//!
//! The bytes are a function of the tensors alone: entries are sorted by element type and name, and the
//! header holds no time, path or rank.
use std::borrow::Cow;
use std::cmp::Reverse;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, TensorView};
use sha2::{Digest, Sha256};

use crate::ArtefactError;

#[cfg(target_endian = "big")]
compile_error!("tensors are written as they lie in memory, and safetensors is little-endian");

/// The elements of a tensor: borrowed from the training state when saved, owned when loaded.
#[derive(Debug, Clone, PartialEq)]
pub enum Values<'a> {
    /// Single precision: parameters and what optimizers keep for them.
    F32(Cow<'a, [f32]>),
    /// Double precision: scalars that accumulate.
    F64(Cow<'a, [f64]>),
    /// Counters.
    U64(Cow<'a, [u64]>),
}

impl Values<'_> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::U64(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
            Self::U64(_) => Dtype::U64,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F64(values) => bytemuck::cast_slice(values),
            Self::U64(values) => bytemuck::cast_slice(values),
        }
    }
}

impl<'a> From<&'a [f32]> for Values<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(Cow::Borrowed(values))
    }
}

impl<'a> From<&'a [f64]> for Values<'a> {
    fn from(values: &'a [f64]) -> Self {
        Self::F64(Cow::Borrowed(values))
    }
}

impl<'a> From<&'a [u64]> for Values<'a> {
    fn from(values: &'a [u64]) -> Self {
        Self::U64(Cow::Borrowed(values))
    }
}

/// A tensor as it stands in a file: a name, a shape and elements in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor<'a> {
    name: Cow<'a, str>,
    shape: Vec<usize>,
    values: Values<'a>,
}

impl<'a> NamedTensor<'a> {
    /// Names `values` and gives them a shape; `[]` is a scalar.
    ///
    /// # Errors
    /// [`ArtefactError::Shape`] unless `shape` has as many elements as `values`.
    ///
    /// # Examples
    /// ```
    /// use phalanx_train::NamedTensor;
    ///
    /// let weight = NamedTensor::new("fc.weight", &[2, 3], [0.0_f32; 6].as_slice())?;
    /// assert_eq!(weight.shape(), [2, 3]);
    /// assert!(NamedTensor::new("fc.bias", &[3], [0.0_f32; 2].as_slice()).is_err());
    /// # Ok::<(), phalanx_train::ArtefactError>(())
    /// ```
    pub fn new(
        name: impl Into<Cow<'a, str>>,
        shape: &[usize],
        values: impl Into<Values<'a>>,
    ) -> Result<Self, ArtefactError> {
        let (name, values) = (name.into(), values.into());
        let need = shape.iter().try_fold(1_usize, |len, &dim| len.checked_mul(dim));
        if need != Some(values.len()) {
            return Err(ArtefactError::Shape {
                tensor: name.into_owned(),
                shape: shape.to_vec(),
                got: values.len(),
            });
        }
        Ok(Self { name, shape: shape.to_vec(), values })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    pub fn values(&self) -> &Values<'a> {
        &self.values
    }

    /// The elements, if they are `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        if let Values::F32(values) = &self.values { Some(values) } else { None }
    }

    /// The elements, if they are `f64`.
    pub fn as_f64(&self) -> Option<&[f64]> {
        if let Values::F64(values) = &self.values { Some(values) } else { None }
    }

    /// The elements, if they are `u64`.
    pub fn as_u64(&self) -> Option<&[u64]> {
        if let Values::U64(values) = &self.values { Some(values) } else { None }
    }
}

/// A safetensors file laid out in memory: its own header, and the tensors where they lie.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    header: Vec<u8>,
    data: Vec<&'a [u8]>,
}

impl<'a> Layout<'a> {
    /// Lays out `tensors`, given in any order.
    ///
    /// # Errors
    /// [`ArtefactError::DuplicateTensor`], [`ArtefactError::ReservedTensor`].
    pub(crate) fn new(tensors: &'a [NamedTensor<'_>]) -> Result<Self, ArtefactError> {
        let mut sorted: Vec<_> = tensors.iter().collect();
        // wide elements first keeps every tensor aligned; safetensors' own writers sort in the same way
        sorted.sort_by_key(|tensor| (Reverse(tensor.values.dtype()), tensor.name()));
        check_names(tensors)?;
        let mut infos = Vec::with_capacity(sorted.len());
        let mut data = Vec::with_capacity(sorted.len());
        let mut at = 0;
        for tensor in sorted {
            let bytes = tensor.values.bytes();
            let data_offsets = (at, at + bytes.len());
            let (dtype, shape) = (tensor.values.dtype(), tensor.shape.clone());
            infos.push((tensor.name.to_string(), TensorInfo { dtype, shape, data_offsets }));
            data.push(bytes);
            at += bytes.len();
        }
        Ok(Self { header: header(infos)?, data })
    }

    /// The file's contents, in order.
    pub(crate) fn parts(&self) -> Vec<&[u8]> {
        std::iter::once(self.header.as_slice()).chain(self.data.iter().copied()).collect()
    }
}

fn check_names(tensors: &[NamedTensor<'_>]) -> Result<(), ArtefactError> {
    let mut names: Vec<_> = tensors.iter().map(NamedTensor::name).collect();
    names.sort_unstable();
    if names.binary_search(&"__metadata__").is_ok() {
        return Err(ArtefactError::ReservedTensor { tensor: "__metadata__".to_owned() });
    }
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ArtefactError::DuplicateTensor { tensor: pair[0].to_owned() }),
        None => Ok(()),
    }
}

/// The length and the JSON that begin a file, padded so that the data after it are aligned.
fn header(infos: Vec<(String, TensorInfo)>) -> Result<Vec<u8>, ArtefactError> {
    // `transformers` loads a file only if it says this
    let format = [("format".to_owned(), "pt".to_owned())];
    let metadata = Metadata::new(Some(format.into_iter().collect()), infos)
        .map_err(|source| ArtefactError::TensorHeader { source })?;
    let mut json = serde_json::to_vec(&metadata)
        .map_err(|source| ArtefactError::TensorHeader { source: source.into() })?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok(header)
}

/// The tensors in the contents of a safetensors file, sorted by name.
///
/// # Errors
/// [`ArtefactError::TensorFile`] and [`ArtefactError::Dtype`], which name `file`.
pub(crate) fn decode(file: &Path, bytes: &[u8]) -> Result<Vec<NamedTensor<'static>>, ArtefactError> {
    let parsed = SafeTensors::deserialize(bytes)
        .map_err(|source| ArtefactError::TensorFile { file: file.to_path_buf(), source })?;
    let mut tensors =
        parsed.iter().map(|(name, view)| owned(file, name, &view)).collect::<Result<Vec<_>, _>>()?;
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

fn owned(file: &Path, name: &str, view: &TensorView<'_>) -> Result<NamedTensor<'static>, ArtefactError> {
    let values = match view.dtype() {
        Dtype::F32 => Values::F32(elements(view.data()).into()),
        Dtype::F64 => Values::F64(elements(view.data()).into()),
        Dtype::U64 => Values::U64(elements(view.data()).into()),
        got => return Err(ArtefactError::Dtype { file: file.to_path_buf(), tensor: name.to_owned(), got }),
    };
    NamedTensor::new(name.to_owned(), view.shape(), values)
}

/// Copies elements out of bytes that need not be aligned for them.
fn elements<T: bytemuck::Pod>(bytes: &[u8]) -> Vec<T> {
    let mut values = vec![T::zeroed(); bytes.len() / size_of::<T>()];
    bytemuck::cast_slice_mut(&mut values).copy_from_slice(bytes);
    values
}

/// SHA-256 of `parts`, one after another.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// `bytes` in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // writing to a string cannot fail
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(tensors: &[NamedTensor<'_>]) -> Vec<u8> {
        Layout::new(tensors).unwrap().parts().concat()
    }

    #[test]
    fn bytes_do_not_depend_on_the_order_given() {
        let weight = NamedTensor::new("b.weight", &[1, 2], [1.0_f32, -2.0].as_slice()).unwrap();
        let bias = NamedTensor::new("a.bias", &[1], [0.5_f32].as_slice()).unwrap();
        let steps = NamedTensor::new("z", &[], [3_u64].as_slice()).unwrap();
        let one = bytes(&[weight.clone(), bias.clone(), steps.clone()]);
        assert_eq!(one, bytes(&[steps.clone(), bias.clone(), weight.clone()]));
        assert_eq!(decode(Path::new("x"), &one).unwrap(), [bias, weight, steps]);
    }

    #[test]
    fn header_is_pinned() {
        let bias = NamedTensor::new("bias", &[1], [0.5_f32].as_slice()).unwrap();
        let mut json =
            br#"{"__metadata__":{"format":"pt"},"bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#
                .to_vec();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut need = (json.len() as u64).to_le_bytes().to_vec();
        need.append(&mut json);
        need.extend(0.5_f32.to_le_bytes());
        assert_eq!(bytes(&[bias]), need);
    }

    #[test]
    fn names_are_checked() {
        let twice =
            ["a", "b", "a"].map(|name| NamedTensor::new(name, &[0], [0.0_f32; 0].as_slice()).unwrap());
        assert!(
            matches!(Layout::new(&twice), Err(ArtefactError::DuplicateTensor { tensor }) if tensor == "a")
        );
        let reserved = [NamedTensor::new("__metadata__", &[0], [0.0_f32; 0].as_slice()).unwrap()];
        assert!(matches!(Layout::new(&reserved), Err(ArtefactError::ReservedTensor { .. })));
    }

    #[test]
    fn an_element_type_of_others_is_refused_by_name() {
        let view = TensorView::new(Dtype::BF16, vec![1], &[0, 0]).unwrap();
        let bytes = safetensors::serialize([("w", view)], None).unwrap();
        let error = decode(Path::new("m.safetensors"), &bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensor `w` of m.safetensors has elements of type BF16, need F32, F64 or U64"
        );
    }

    proptest! {
        #[test]
        fn round_trip(values in prop::collection::vec(any::<f64>(), 0..40), name in ".{0,12}") {
            prop_assume!(name != "__metadata__");
            let tensor = NamedTensor::new(name, &[values.len()], values.as_slice()).unwrap();
            let back = decode(Path::new("x"), &bytes(std::slice::from_ref(&tensor))).unwrap();
            prop_assert_eq!(back.len(), 1);
            prop_assert_eq!(back[0].name(), tensor.name());
            prop_assert_eq!(back[0].values.bytes(), tensor.values.bytes());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let parsed = decode(Path::new("x"), &bytes);
            prop_assert!(parsed.is_err() || bytes.len() >= 10);
        }

        #[test]
        fn a_changed_header_never_panics(at in 0_usize..96, to in any::<u8>()) {
            let tensor = NamedTensor::new("w", &[2, 2], [1.0_f32; 4].as_slice()).unwrap();
            let mut changed = bytes(&[tensor]);
            changed[at] = to;
            if let Ok(tensors) = decode(Path::new("x"), &changed) {
                let elements: usize = tensors.iter().map(|tensor| tensor.values.len()).sum();
                prop_assert!(elements <= 4);
            }
        }
    }
}
