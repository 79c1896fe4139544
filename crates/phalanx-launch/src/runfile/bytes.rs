//! A size in memory as a run file writes it: an integer of bytes, or text such as "64KiB".

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
///
/// # Units
/// Bytes. Read from `65536` or from text with a unit: `B`, `KB`, `MB`, `GB` (powers of 1000),
/// `KiB`, `MiB`, `GiB` (powers of 1024). Shown in the largest binary unit that is exact.
///
/// # Examples
/// ```
/// use phalanx_launch::runfile::Bytes;
/// assert_eq!("64KiB".parse(), Ok(Bytes(65_536)));
/// assert_eq!("1.5 MB".parse(), Ok(Bytes(1_500_000)));
/// assert_eq!(Bytes(65_536).to_string(), "64KiB");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a size in bytes: {got:?}")]
pub struct ParseBytesError {
    /// The text.
    pub got: String,
}

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, ParseBytesError> {
        let wrong = || ParseBytesError { got: text.to_owned() };
        let trimmed = text.trim();
        let (digits, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| strip_unit(trimmed, unit).map(|digits| (digits, *factor)))
            .unwrap_or((trimmed, 1));
        exact(digits.trim_end(), factor).map(Bytes).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS[..3].iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match binary {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

fn strip_unit<'a>(text: &'a str, unit: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(unit.len())?;
    let (digits, end) = text.split_at_checked(at)?;
    end.eq_ignore_ascii_case(unit).then_some(digits)
}

/// `digits * factor` in integers: a size that was written exactly must not pass through a float.
fn exact(digits: &str, factor: u64) -> Option<u64> {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(part.len()).ok()?);
    let part = if part.is_empty() { 0 } else { part.parse::<u64>().ok()? };
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    whole.checked_add(part.checked_mul(factor)? / scale)
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn sizes_are_read_exactly() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("25MB", 25_000_000),
            ("0.5GiB", 536_870_912),
            ("9007199254740993B", 9_007_199_254_740_993),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "KiB", "-1", "1e3", "64Kib2", ".5MB", "20000000000GiB", "1.0000000001KiB", "é"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn shown_in_the_largest_exact_unit() {
        assert_eq!(Bytes(3 << 20).to_string(), "3MiB");
        assert_eq!(Bytes(1000).to_string(), "1000");
        assert_eq!(Bytes(0).to_string(), "0");
    }
}
