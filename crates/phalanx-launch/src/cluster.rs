//! A virtual cluster on this machine: each node is a network namespace with a host name, an `/etc/hosts`, a `/dev/shm` and an
//! ssh daemon of its own, joined by a switch in a namespace of its own.
//!
//! To programs such as mpirun the nodes are separate hosts, which can be slowed down, cut off and healed. Nothing is added
//! to the machine's own network. Everything is made by the system's programs (`ip`, `nsenter`, `unshare`, `sshd`), so
//! that what fails names the call.

mod error;
mod net;
mod node;
mod place;
mod up;

pub use error::ClusterError;
pub(crate) use net::{cut, delay, heal, loss, rate};
pub(crate) use node::{enter, status};
pub(crate) use place::{Place, Switch};
pub(crate) use up::{Size, down, up};
