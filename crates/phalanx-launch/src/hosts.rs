//! Hosts that ranks are started on: the file that lists them, and whether each is fit for the job.

mod check;
mod file;
mod probe;

pub(crate) use check::{Checked, check, table};
pub(crate) use file::Hosts;
pub use file::HostsError;
pub(crate) use probe::{Identity, RemoteShell};
