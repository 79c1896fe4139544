//! The state of transforms on the host, as checkpoints hold it.

use crate::GradError;
use phalanx_tensor::Float;

/// A named part of a transform's state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// Its name, unique within the transform.
    pub name: String,
    /// Its elements: one a parameter in the flat layout, or a few scalars.
    pub data: StateData,
}

impl StateTensor {
    /// A named copy of elements.
    pub fn new<T: Float>(name: impl Into<String>, elems: &[T]) -> Self {
        StateTensor { name: name.into(), data: StateData::from_elems(elems) }
    }
}

/// Elements of a state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StateData {
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
    /// Counters.
    U64(Vec<u64>),
}

impl StateData {
    /// A copy of elements, in their own precision.
    ///
    /// # Examples
    /// ```
    /// use phalanx_grad::StateData;
    /// assert_eq!(StateData::from_elems(&[0.5_f32]), StateData::F32(vec![0.5]));
    /// assert_eq!(StateData::from_elems(&[0.5_f64]), StateData::F64(vec![0.5]));
    /// ```
    #[must_use]
    pub fn from_elems<T: Float>(elems: &[T]) -> Self {
        match bytemuck::try_cast_slice::<T, f32>(elems) {
            Ok(elems) if T::NAME == f32::NAME => StateData::F32(elems.to_vec()),
            _ => StateData::F64(elems.iter().map(|x| x.to_f64()).collect()),
        }
    }

    /// The elements, if they are of type `T`.
    #[must_use]
    pub fn elems<T: Float>(&self) -> Option<&[T]> {
        match self {
            StateData::F32(elems) if T::NAME == f32::NAME => bytemuck::try_cast_slice(elems).ok(),
            StateData::F64(elems) if T::NAME == f64::NAME => bytemuck::try_cast_slice(elems).ok(),
            _ => None,
        }
    }

    /// The name of the element type, as safetensors writes it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            StateData::F32(_) => "F32",
            StateData::F64(_) => "F64",
            StateData::U64(_) => "U64",
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            StateData::F32(elems) => elems.len(),
            StateData::F64(elems) => elems.len(),
            StateData::U64(elems) => elems.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Takes a saved state apart and sees to it that nothing is missing and nothing left over.
///
/// # Examples
/// ```
/// use phalanx_grad::{GradError, StateReader, StateTensor};
/// let saved = [StateTensor::new("velocity", &[1.0_f32, 2.0])];
/// let mut reader = StateReader::new("sgd", &saved);
/// assert_eq!(reader.elems::<f32>("velocity", 2)?, [1.0, 2.0]);
/// reader.finish()?;
///
/// let missing = StateReader::new("adagrad", &saved).elems::<f32>("sum", 2);
/// assert_eq!(missing, Err(GradError::StateMissing { owner: "adagrad", name: "sum" }));
/// # Ok::<(), GradError>(())
/// ```
#[derive(Debug)]
pub struct StateReader<'a> {
    owner: &'static str,
    state: &'a [StateTensor],
    read: Vec<&'static str>,
}

impl<'a> StateReader<'a> {
    /// A reader of the state of `owner`.
    #[must_use]
    pub fn new(owner: &'static str, state: &'a [StateTensor]) -> Self {
        StateReader { owner, state, read: Vec::new() }
    }

    /// The tensor of a name, of `len` elements of type `T`.
    ///
    /// # Errors
    /// [`GradError::StateMissing`], [`GradError::StateLength`], [`GradError::StateType`].
    pub fn elems<T: Float>(&mut self, name: &'static str, len: usize) -> Result<&'a [T], GradError> {
        let owner = self.owner;
        let found = self.state.iter().find(|tensor| tensor.name == name);
        let data = &found.ok_or(GradError::StateMissing { owner, name })?.data;
        let (got, need) = (data.type_name(), T::NAME);
        let elems = data.elems::<T>().ok_or(GradError::StateType { owner, name, got, need })?;
        if elems.len() != len {
            return Err(GradError::StateLength { owner, name, got: elems.len(), need: len });
        }
        self.read.push(name);
        Ok(elems)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`GradError::StateUnknown`] when a tensor was not asked for: the state is of another transform.
    pub fn finish(self) -> Result<(), GradError> {
        match self.state.iter().find(|tensor| !self.read.contains(&tensor.name.as_str())) {
            Some(tensor) => Err(GradError::StateUnknown { owner: self.owner, name: tensor.name.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_survive() {
        let odd = [f32::MIN_POSITIVE / 3.0, -0.0, f32::MAX, f32::from_bits(0x7fc1_2345)];
        let back = StateData::from_elems(&odd);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(back.elems::<f32>().unwrap()), bits(&odd));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let saved = [StateTensor::new("sum", &[1.0_f32, 2.0]), StateTensor::new("more", &[1.0_f64])];
        let mut reader = StateReader::new("adagrad", &saved);
        let length = GradError::StateLength { owner: "adagrad", name: "sum", got: 2, need: 3 };
        assert_eq!(reader.elems::<f32>("sum", 3), Err(length));
        let kind = GradError::StateType { owner: "adagrad", name: "sum", got: "F32", need: "F64" };
        assert_eq!(reader.elems::<f64>("sum", 2), Err(kind));
        assert!(reader.elems::<f32>("sum", 2).is_ok());
        let unknown = GradError::StateUnknown { owner: "adagrad", name: "more".to_owned() };
        assert_eq!(reader.finish(), Err(unknown));
    }
}
