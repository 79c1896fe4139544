//! The allowed values of a number in a run file.

use std::fmt;

/// Which numbers a key takes. Never NaN or an infinity.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Range {
    /// Every value of the type.
    Any,
    /// `bound <= x`.
    AtLeast(f64),
    /// `bound < x`.
    Above(f64),
    /// `low <= x <= high`.
    Within(f64, f64),
    /// `low <= x < high`.
    Below(f64, f64),
    /// `low < x < high`.
    Between(f64, f64),
    /// `low < x <= high`.
    UpTo(f64, f64),
}

impl Range {
    /// Whether `x` is allowed.
    #[must_use]
    pub fn contains(self, x: f64) -> bool {
        x.is_finite()
            && match self {
                Self::Any => true,
                Self::AtLeast(bound) => x >= bound,
                Self::Above(bound) => x > bound,
                Self::Within(low, high) => low <= x && x <= high,
                Self::Below(low, high) => low <= x && x < high,
                Self::Between(low, high) => low < x && x < high,
                Self::UpTo(low, high) => low < x && x <= high,
            }
    }
}

/// Reads on after the name of a type: "an integer, at least 1".
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
            Self::Above(bound) => write!(f, "above {bound}"),
            Self::Within(low, high) => write!(f, "from {low} to {high}"),
            Self::Below(low, high) => write!(f, "at least {low} and below {high}"),
            Self::Between(low, high) => write!(f, "above {low} and below {high}"),
            Self::UpTo(low, high) => write!(f, "above {low} and at most {high}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn bounds_are_in_or_out_as_named() {
        for (range, low, high) in [
            (Range::Within(0.0, 1.0), true, true),
            (Range::Below(0.0, 1.0), true, false),
            (Range::Between(0.0, 1.0), false, false),
            (Range::UpTo(0.0, 1.0), false, true),
        ] {
            assert_eq!((range.contains(0.0), range.contains(1.0)), (low, high), "{range}");
            assert!(range.contains(0.5) && !range.contains(-0.1) && !range.contains(1.1), "{range}");
        }
        assert!(Range::AtLeast(1.0).contains(1.0) && !Range::Above(1.0).contains(1.0));
        assert!(!Range::Any.contains(f64::NAN) && !Range::Any.contains(f64::INFINITY));
    }
}
