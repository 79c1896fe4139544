//! How ranks over MPI behave.

use std::time::Duration;

/// How a world over MPI behaves. The same on every rank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MpiOptions {
    /// How long a rank waits for the others in one collective before it gives the world up. Default 60 s.
    pub timeout: Duration,
    /// How long, at the end and after a failure, a rank waits for the others before it ends the job. Default 10 s.
    pub grace: Duration,
    /// Which ranks share memory. Default: those of one host.
    pub nodes: Nodes,
}

impl Default for MpiOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), grace: Duration::from_secs(10), nodes: Nodes::Hosts }
    }
}

/// What advances started collectives while a rank computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// A thread, where every rank has a core more than it computes on, by the CPUs that it may run on and those that the other
    /// ranks of its node may; else calls.
    Auto,
    /// A communication thread on every rank.
    Thread,
    /// The rank's own calls, between its operators.
    Calls,
}

/// Which ranks share memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nodes {
    /// Those that MPI says can (`MPI_COMM_TYPE_SHARED`).
    Hosts,
    /// At most so many neighbours of those: tests of what happens between nodes, on one.
    AtMost(usize),
}
