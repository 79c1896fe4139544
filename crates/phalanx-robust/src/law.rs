//! The laws by which rules differ.

use std::fmt;

/// A property that a rule keeps on every set of vectors, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Law {
    /// The order of the vectors does not matter, when their names go with them.
    Permutation,
    /// Moving all vectors moves the result.
    Translation,
    /// Scaling all vectors by a number above 0 scales the result.
    Scale,
    /// Turning all vectors round turns the result round.
    Negation,
    /// Rotating all vectors rotates the result.
    Rotation,
    /// Scaling a coordinate by a number above 0 scales that coordinate of the result.
    CoordinateScale,
    /// When no coordinate of any vector falls, none of the result falls.
    Monotone,
    /// Equal vectors give that vector.
    Unanimity,
    /// When all but `f` are equal, the result is that vector.
    Majority,
    /// Each coordinate of the result lies among those of the honest vectors.
    Box,
    /// With no hostile vector to bear, the result is the mean.
    MeanWithoutHostile,
}

impl Law {
    /// All of them.
    pub const ALL: [Law; 11] = [
        Law::Permutation,
        Law::Translation,
        Law::Scale,
        Law::Negation,
        Law::Rotation,
        Law::CoordinateScale,
        Law::Monotone,
        Law::Unanimity,
        Law::Majority,
        Law::Box,
        Law::MeanWithoutHostile,
    ];

    /// A short name for tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Law::Permutation => "permutation",
            Law::Translation => "translation",
            Law::Scale => "scale",
            Law::Negation => "negation",
            Law::Rotation => "rotation",
            Law::CoordinateScale => "coordinate-scale",
            Law::Monotone => "monotone",
            Law::Unanimity => "unanimity",
            Law::Majority => "majority",
            Law::Box => "box",
            Law::MeanWithoutHostile => "mean-at-f0",
        }
    }
}

/// A set of laws.
///
/// # Examples
/// ```
/// use phalanx_robust::{Law, Laws};
/// let laws = Laws::all().without(Law::Rotation);
/// assert!(laws.has(Law::Box) && !laws.has(Law::Rotation));
/// assert_eq!(Laws::none().and(Law::Scale).and(Law::Negation).to_string(), "scale negation");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Laws(u16);

impl Laws {
    /// No law.
    #[must_use]
    pub const fn none() -> Self {
        Laws(0)
    }

    /// Every law.
    #[must_use]
    pub const fn all() -> Self {
        Laws((1 << Law::ALL.len()) - 1)
    }

    /// These and one more.
    #[must_use]
    pub const fn and(self, law: Law) -> Self {
        Laws(self.0 | 1 << law as u16)
    }

    /// These without one.
    #[must_use]
    pub const fn without(self, law: Law) -> Self {
        Laws(self.0 & !(1 << law as u16))
    }

    /// Whether a law is among them.
    #[must_use]
    pub const fn has(self, law: Law) -> bool {
        self.0 & 1 << law as u16 != 0
    }

    /// The laws, in their order.
    pub fn iter(self) -> impl Iterator<Item = Law> {
        Law::ALL.into_iter().filter(move |law| self.has(*law))
    }

    /// The laws that are among both.
    #[must_use]
    pub const fn of_both(self, other: Laws) -> Self {
        Laws(self.0 & other.0)
    }

    /// What rules of selection by distance keep: all but those about single coordinates.
    pub(crate) const fn of_distances() -> Self {
        Laws::all().without(Law::CoordinateScale).without(Law::Monotone).without(Law::Box)
    }

    /// What rules about single coordinates keep: all but rotation.
    pub(crate) const fn of_coordinates() -> Self {
        Laws::all().without(Law::Rotation)
    }
}

impl fmt::Display for Laws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, law) in self.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { " " }, law.name())?;
        }
        Ok(())
    }
}
