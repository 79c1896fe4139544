//! What a run file says about the gradients of ranks beyond single values: what acts before the rule, and who attacks.

mod attacks;
mod before;
pub(crate) mod named;
mod over_ranks;

pub use attacks::{Attack, AttackKind, Attacks, AttacksError};
pub use before::Before;
pub use named::NamedError;
pub use over_ranks::{OverRanks, UnfitError};
