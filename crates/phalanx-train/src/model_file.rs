//! The trained model as a file: the same parameters give the same bytes, wherever they were trained.
use std::path::Path;

use crate::storage::{Disk, Storage, replace_file};
use crate::tensor_file::{Layout, decode, hex, sha256};
use crate::{ArtefactError, NamedTensor};

/// The longest model file that is read, in bytes: beyond what a CPU trains.
const MAX_LEN: u64 = 1 << 40;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// Length, in bytes.
    pub bytes: u64,
    /// SHA-256 of the contents, in hexadecimal.
    pub sha256: String,
}

/// Writes `tensors` to `file` in the safetensors format, whole or not at all.
///
/// # Numerics
/// The bytes depend on the tensors alone, not on their order, the time, the ranks, the backend or the
/// path.
///
/// # Errors
/// [`ArtefactError::Io`]; a name that occurs twice or is reserved.
///
/// # Examples
/// ```
/// use phalanx_train::{NamedTensor, model_file};
///
/// let dir = tempfile::tempdir()?;
/// let file = dir.path().join("model.safetensors");
/// let bias = NamedTensor::new("fc.bias", &[2], [0.5_f32, -0.5].as_slice())?;
/// let written = model_file::write(&file, std::slice::from_ref(&bias))?;
/// assert_eq!(written.bytes, std::fs::metadata(&file)?.len());
/// assert_eq!(model_file::read(&file)?, [bias]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write(file: &Path, tensors: &[NamedTensor<'_>]) -> Result<ModelFile, ArtefactError> {
    let layout = Layout::new(tensors)?;
    let parts = layout.parts();
    replace_file(&Disk, file, &parts).map_err(ArtefactError::io("write", file))?;
    let bytes = parts.iter().map(|part| part.len() as u64).sum();
    Ok(ModelFile { bytes, sha256: hex(&sha256(&parts)) })
}

/// Reads the tensors of a safetensors file, sorted by name.
///
/// # Errors
/// [`ArtefactError::Io`], [`ArtefactError::TensorFile`], [`ArtefactError::Dtype`].
pub fn read(file: &Path) -> Result<Vec<NamedTensor<'static>>, ArtefactError> {
    let bytes = Disk.read(file, MAX_LEN).map_err(ArtefactError::io("read", file))?;
    decode(file, &bytes)
}
