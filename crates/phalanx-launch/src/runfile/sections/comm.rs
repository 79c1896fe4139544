//! `[comm]`: how ranks that are processes reduce.

use crate::runfile::Range;
use crate::runfile::key::{keys, names};

keys! {
    /// How ranks that are processes reduce; ranks as threads have one way.
    pub struct Comm {
        /// How sums go between nodes. "auto" measures at the start and takes, for each length, the faster of "flat" and
        /// "hierarchical", which give the same bits; sums of the reproducible mode always go "flat".
        algorithm: Algorithm = Algorithm::Auto, "", Range::Any, Fixed;
        /// What advances sums while a rank computes. "auto" is "thread" where every rank has a core more than it computes on, by the
        /// CPUs that it and the other ranks of its host may run on, and "calls" elsewhere. It changes no bit.
        progress: Progress = Progress::Auto, "", Range::Any, May;
    }
}

names! {
    /// What advances sums while a rank computes.
    pub enum Progress {
        /// A thread where there is a core for it, else calls.
        "auto" => Auto,
        /// A communication thread of each rank.
        "thread" => Thread,
        /// The rank itself, between the operators of its backward pass.
        "calls" => Calls,
    }
}

names! {
    /// How sums go between nodes.
    pub enum Algorithm {
        /// The faster of flat and hierarchical, as measured at the start.
        "auto" => Auto,
        /// Every rank exchanges slices with every other.
        "flat" => Flat,
        /// The ranks of a node sum a slice each, and exchange it with one rank of every other node.
        "hierarchical" => Hierarchical,
        /// `MPI_Iallreduce`, in the order of the MPI library, inside nodes too.
        "mpi" => Mpi,
    }
}
