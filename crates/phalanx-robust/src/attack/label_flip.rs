//! Label flip: honest training on wrong labels.

use serde::{Deserialize, Serialize};

/// How an attacker changes the labels of its own data; what it then sends is an honest update.
///
/// # Examples
/// ```
/// use phalanx_robust::attack::LabelFlip;
/// assert_eq!(LabelFlip::Mirror.label(3, 10), 6);
/// assert_eq!(LabelFlip::Next.label(9, 10), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelFlip {
    /// `y` becomes `C - 1 - y`.
    #[default]
    Mirror,
    /// `y` becomes `(y + 1) mod C`.
    Next,
}

impl LabelFlip {
    /// The wrong label for `label` of `classes`; labels that are no class stay.
    #[must_use]
    pub fn label(self, label: u32, classes: u32) -> u32 {
        match self {
            _ if label >= classes => label,
            LabelFlip::Mirror => classes - 1 - label,
            LabelFlip::Next => (label + 1) % classes,
        }
    }
}
