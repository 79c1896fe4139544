//! The types that a key of a run file may have.

use toml::Value as Toml;

use super::bytes::Bytes;
use super::range::Range;

/// A type that one key holds.
///
/// `write` is the inverse of `read`: what it returns is read back as an equal value.
pub trait Value: Sized {
    /// What to write in the file, with its article: "an integer".
    fn expects() -> String;

    /// Reads the value; `None` where the type does not fit.
    fn read(toml: &Toml) -> Option<Self>;

    /// The value as it stands in the resolved run file; `None` where it stands for "not given".
    fn write(&self) -> Option<Toml>;

    /// Whether every number in the value lies in `range`.
    fn fits(&self, range: Range) -> bool {
        let _ = range;
        true
    }

    /// The value where a key without a default is not given; `None` where it must be given.
    fn when_absent() -> Option<Self> {
        None
    }

    /// The names a value is one of, empty for all other types.
    fn names() -> &'static [&'static str] {
        &[]
    }
}

impl Value for bool {
    fn expects() -> String {
        "true or false".to_owned()
    }

    fn read(toml: &Toml) -> Option<Self> {
        toml.as_bool()
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::Boolean(*self))
    }
}

impl Value for f64 {
    fn expects() -> String {
        "a number".to_owned()
    }

    #[expect(clippy::cast_precision_loss, reason = "`lr = 1` means 1.0; integers past 2^53 are no settings")]
    fn read(toml: &Toml) -> Option<Self> {
        toml.as_float().or_else(|| toml.as_integer().map(|int| int as f64))
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::Float(*self))
    }

    fn fits(&self, range: Range) -> bool {
        range.contains(*self)
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Value for $int {
            fn expects() -> String {
                "an integer".to_owned()
            }

            fn read(toml: &Toml) -> Option<Self> {
                toml.as_integer().and_then(|int| int.try_into().ok())
            }

            /// TOML's integers end at 2^63 - 1, so no file holds a larger one.
            fn write(&self) -> Option<Toml> {
                Some(Toml::Integer(i64::try_from(*self).unwrap_or(i64::MAX)))
            }

            #[expect(clippy::cast_precision_loss, reason = "bounds are small; the comparison need not be exact past 2^53")]
            fn fits(&self, range: Range) -> bool {
                range.contains(*self as f64)
            }
        }
    )*};
}

integers!(usize, u64);

impl Value for String {
    fn expects() -> String {
        "a string".to_owned()
    }

    fn read(toml: &Toml) -> Option<Self> {
        toml.as_str().map(str::to_owned)
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::String(self.clone()))
    }
}

impl Value for Bytes {
    fn expects() -> String {
        "a size in bytes such as 65536 or \"64KiB\"".to_owned()
    }

    fn read(toml: &Toml) -> Option<Self> {
        match toml {
            Toml::Integer(int) => (*int).try_into().ok().map(Self),
            Toml::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::String(self.to_string()))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "bounds are small; the comparison need not be exact past 2^53"
    )]
    fn fits(&self, range: Range) -> bool {
        range.contains(self.0 as f64)
    }
}

impl<T: Value> Value for Vec<T> {
    fn expects() -> String {
        format!("a list, each {}", T::expects())
    }

    fn read(toml: &Toml) -> Option<Self> {
        toml.as_array()?.iter().map(T::read).collect()
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::Array(self.iter().filter_map(T::write).collect()))
    }

    fn fits(&self, range: Range) -> bool {
        self.iter().all(|item| item.fits(range))
    }
}

impl<T: Value> Value for Option<T> {
    fn expects() -> String {
        T::expects()
    }

    fn read(toml: &Toml) -> Option<Self> {
        T::read(toml).map(Some)
    }

    fn write(&self) -> Option<Toml> {
        self.as_ref().and_then(T::write)
    }

    fn fits(&self, range: Range) -> bool {
        self.as_ref().is_none_or(|value| value.fits(range))
    }

    fn when_absent() -> Option<Self> {
        Some(None)
    }
}
