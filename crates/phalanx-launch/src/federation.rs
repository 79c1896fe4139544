//! What a federated run file says beyond single values: who attacks, and how, and what the server's algorithm is.

mod algorithm;
mod attackers;

pub(crate) use algorithm::algorithm;
pub(crate) use attackers::attackers;
