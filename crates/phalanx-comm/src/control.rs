//! The control channel: signs of life between ranks, and one verdict when one of them is lost.
//!
//! Collectives cannot tell a rank that is slow from one that is gone: everybody waits. So each rank of a job of several
//! processes has a thread that tells rank 0 and its two neighbours where it is, a few times a second, over small TCP
//! links that carry no tensor. Any rank can be the one that is lost, rank 0 too: whoever misses a neighbour for
//! [`Limits::silence`], or sees the process's end at once, gives a [`Verdict`], which goes to all ranks that can be reached.
//! Rank 0 hears everyone, and also finds a rank that lives but does nothing while others wait for it.
//!
//! A link that breaks is dialled again; what heals within the limit is no failure. Messages carry a tag that only who knows
//! the job's [`Secret`] can make, and a counter, so that strangers and echoes are refused. Their length is bounded.
//!
//! [`Board`] is where the training loop writes its phase; [`Control::over`] starts the channel on the ranks of a
//! communicator, [`Control::start`] on a list of addresses.

mod agent;
mod board;
mod card;
mod dial;
mod error;
mod frame;
mod handle;
mod judge;
mod link;
mod message;
mod peer;
mod secret;
mod verdict;

pub use board::{Board, Collective, Phase, Status};
pub use card::{Card, Port};
pub use error::ControlError;
pub use frame::Refusal;
pub use handle::{Control, Limits, LinkFaults, Refused, Watched};
pub use secret::Secret;
pub use verdict::{Cause, Extremes, Verdict};
