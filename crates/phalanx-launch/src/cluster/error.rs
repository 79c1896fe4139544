//! What can go wrong with a virtual cluster.

use std::path::PathBuf;

/// Why a virtual cluster does not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Namespaces are the administrator's.
    #[error("a virtual cluster needs root: it makes network namespaces")]
    NotRoot,
    /// A program of the system is not installed.
    #[error("{program} is not installed; `cargo xtask setup` installs what a virtual cluster needs")]
    Missing {
        /// The program.
        program: &'static str,
    },
    /// There is one of that name.
    #[error("the cluster {name} is up already; `phalanx cluster --name {name} down` ends it")]
    IsUp {
        /// Its name.
        name: String,
    },
    /// There is none of that name.
    #[error("the cluster {name} is not up; `phalanx cluster --name {name} up 3` starts one of three nodes")]
    IsDown {
        /// Its name.
        name: String,
    },
    /// A node that it does not have.
    #[error("the cluster has nodes 1 to {nodes}, got {got}")]
    Node {
        /// The number.
        got: usize,
        /// How many there are.
        nodes: usize,
    },
    /// A name that would be none of a namespace.
    #[error("{name:?} is no name of a cluster: letters, digits and -, 1 to 9 of them")]
    Name {
        /// The name.
        name: String,
    },
    /// A program of the system failed.
    #[error("`{command}` failed: {says}")]
    Command {
        /// The command line.
        command: String,
        /// Its complaint.
        says: String,
    },
    /// A node did not come up.
    #[error("node{node} did not {what} within {seconds} s")]
    Late {
        /// Its number.
        node: usize,
        /// What it should have done.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// Delay and loss need the switch that is a program.
    #[error("{what} needs a cluster that was made with `up --switch user`")]
    NeedsUserSwitch {
        /// What was asked for.
        what: &'static str,
    },
    /// A file of the cluster.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl ClusterError {
    pub(super) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
