//! How the flat gradient is cut into parameters.

use crate::GradError;
use phalanx_tensor::Shape;
use std::collections::BTreeSet;
use std::ops::Range;

/// Where a parameter lies in the flat buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpan {
    /// Its name, as in the saved model.
    pub name: String,
    /// Its first element.
    pub offset: usize,
    /// How many elements it has.
    pub len: usize,
    /// Its extents, whose product is `len`.
    pub shape: Shape,
}

impl ParamSpan {
    /// Its elements.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// The parameters of a model in the order in which backward finishes their gradients, one behind the other.
///
/// The flat parameters, gradients and optimizer states all have this layout, so that buckets are ranges and an
/// optimizer is one pass over memory.
///
/// # Examples
/// ```
/// use phalanx_grad::GradLayout;
/// use phalanx_tensor::Shape;
///
/// let layout = GradLayout::new([("head.bias", Shape::from([10])), ("head.weight", Shape::from([10, 4]))])?;
/// assert_eq!(layout.len(), 50);
/// assert_eq!(layout.get("head.weight").map(|span| span.range()), Some(10..50));
/// assert_eq!(layout.span_at(12).map(|span| span.name.as_str()), Some("head.weight"));
/// # Ok::<(), phalanx_grad::GradError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GradLayout {
    spans: Vec<ParamSpan>,
    len: usize,
}

impl GradLayout {
    /// Places parameters one behind the other, in the order given.
    ///
    /// # Errors
    /// [`GradError::DuplicateParam`] when two have one name.
    pub fn new<N: Into<String>>(params: impl IntoIterator<Item = (N, Shape)>) -> Result<Self, GradError> {
        let mut layout = GradLayout::default();
        let mut names = BTreeSet::new();
        for (name, shape) in params {
            let name = name.into();
            if !names.insert(name.clone()) {
                return Err(GradError::DuplicateParam { name });
            }
            let (offset, len) = (layout.len, shape.len());
            layout.spans.push(ParamSpan { name, offset, len, shape });
            layout.len += len;
        }
        Ok(layout)
    }

    /// One parameter `flat` of `len` elements: for buffers whose parts do not matter.
    #[must_use]
    pub fn flat(len: usize) -> Self {
        GradLayout {
            spans: vec![ParamSpan { name: "flat".to_owned(), offset: 0, len, shape: Shape::from([len]) }],
            len,
        }
    }

    /// The elements of all parameters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parameters, in order.
    #[must_use]
    pub fn spans(&self) -> &[ParamSpan] {
        &self.spans
    }

    /// The parameter of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ParamSpan> {
        self.spans.iter().find(|span| span.name == name)
    }

    /// The parameter that holds an element of the flat buffer: the one to name when that element is NaN.
    #[must_use]
    pub fn span_at(&self, index: usize) -> Option<&ParamSpan> {
        self.spans.get(self.spans.partition_point(|span| span.range().end <= index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parameters_own_no_element() {
        let shapes = [("a", Shape::from([2])), ("none", Shape::from([0, 3])), ("scalar", Shape::new(&[]))];
        let layout = GradLayout::new(shapes).unwrap();
        let owners: Vec<_> = (0..4).map(|i| layout.span_at(i).map(|span| span.name.as_str())).collect();
        assert_eq!(owners, [Some("a"), Some("a"), Some("scalar"), None]);
        assert_eq!(layout.get("none").unwrap().range(), 2..2);
        assert_eq!(layout.get("other"), None);
    }

    #[test]
    fn a_name_twice_is_refused() {
        let params = [("w", Shape::from([1])), ("w", Shape::from([2]))];
        assert_eq!(GradLayout::new(params), Err(GradError::DuplicateParam { name: "w".to_owned() }));
    }
}
