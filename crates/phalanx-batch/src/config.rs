//! Every policy by its name.

use crate::{BatchError, Constant};
use phalanx_grad::BatchPolicy;

/// The settings of any policy.
///
/// # Examples
/// ```
/// use phalanx_batch::{BatchError, PolicyConfig};
/// for name in PolicyConfig::NAMES {
///     assert_eq!(PolicyConfig::from_name(name)?.build().name(), *name);
/// }
/// let unknown = PolicyConfig::from_name("growing").unwrap_err();
/// assert_eq!(unknown.to_string(), "no batch policy is named growing, there are constant");
/// # Ok::<(), BatchError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyConfig {
    /// The batch keeps its size.
    Constant,
}

impl PolicyConfig {
    /// The names of all policies, as in a run file.
    pub const NAMES: &[&str] = &["constant"];

    /// The default settings of the policy of a name.
    ///
    /// # Errors
    /// [`BatchError::UnknownPolicy`] lists the names there are.
    pub fn from_name(name: &str) -> Result<Self, BatchError> {
        match name {
            "constant" => Ok(Self::Constant),
            _ => Err(BatchError::UnknownPolicy { name: name.to_owned(), known: Self::NAMES }),
        }
    }

    /// The policy with these settings.
    #[must_use]
    pub fn build(&self) -> Box<dyn BatchPolicy> {
        match self {
            Self::Constant => Box::new(Constant),
        }
    }
}
