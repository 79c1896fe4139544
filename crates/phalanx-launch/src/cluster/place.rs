//! Where a virtual cluster keeps its files, and what its parts are called.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};

use super::error::ClusterError;

/// How the nodes are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    /// The kernel's bridge: fast; rates and cuts.
    Bridge,
    /// A program: slower; delay, loss and cuts between two nodes besides.
    User,
}

/// What is known of a cluster that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) nodes: usize,
    pub(super) switch: Switch,
}

/// The names and files of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) name: String,
    pub(super) root: PathBuf,
}

impl Place {
    /// # Errors
    /// [`ClusterError::Name`] for a name that does not fit into a namespace's.
    pub(crate) fn new(name: &str) -> Result<Self, ClusterError> {
        let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || name.len() > 9 || !name.chars().all(is_fit) || name.starts_with('-') {
            return Err(ClusterError::Name { name: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), root: Path::new("/run/phalanx-cluster").join(name) })
    }

    /// The file that lists the nodes for launchers.
    pub(crate) fn hosts_file(&self) -> PathBuf {
        self.root.join("hosts")
    }

    /// The configuration with which ssh enters the nodes.
    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.root.join("ssh_config")
    }

    pub(super) fn etc_hosts(&self) -> PathBuf {
        self.root.join("etc_hosts")
    }

    pub(super) fn node_dir(&self, node: usize) -> PathBuf {
        self.root.join(format!("node{node}"))
    }

    /// The namespace of a node.
    pub(super) fn namespace(&self, node: usize) -> String {
        format!("{}-n{node}", self.name)
    }

    /// The namespace of the switch.
    pub(super) fn switch_namespace(&self) -> String {
        format!("{}-sw", self.name)
    }

    pub(super) fn switch_socket(&self) -> PathBuf {
        self.root.join("switch.sock")
    }

    fn state_file(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// # Errors
    /// [`ClusterError::IsDown`].
    pub(super) fn state(&self) -> Result<State, ClusterError> {
        let text = fs::read_to_string(self.state_file()).ok();
        let state = text.and_then(|text| serde_json::from_str(&text).ok());
        state.ok_or_else(|| ClusterError::IsDown { name: self.name.clone() })
    }

    pub(super) fn write_state(&self, state: &State) -> Result<(), ClusterError> {
        let text = serde_json::to_string(state).unwrap_or_default();
        write(&self.state_file(), &text)
    }

    /// # Errors
    /// [`ClusterError::IsDown`], [`ClusterError::Node`].
    pub(super) fn check_node(&self, node: usize) -> Result<State, ClusterError> {
        let state = self.state()?;
        match (1..=state.nodes).contains(&node) {
            true => Ok(state),
            false => Err(ClusterError::Node { got: node, nodes: state.nodes }),
        }
    }
}

/// The address of a node.
pub(super) fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 77, 0, 0).to_bits() + u32::try_from(node).unwrap_or(0))
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), ClusterError> {
    fs::write(path, text).map_err(ClusterError::io("write", path))
}

/// Runs a program of the system.
///
/// # Errors
/// [`ClusterError::Command`] with what it complained of.
pub(super) fn run(words: &[&str]) -> Result<String, ClusterError> {
    let (program, args) = words.split_first().map_or(("true", &[][..]), |(program, args)| (*program, args));
    let failed = |says: String| ClusterError::Command { command: words.join(" "), says };
    let Output { status, stdout, stderr } =
        Command::new(program).args(args).output().map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let says = String::from_utf8_lossy(&stderr).trim().to_owned();
        return Err(failed(if says.is_empty() { status.to_string() } else { says }));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{ClusterError, Place, address, run};

    #[test]
    fn names_fit_into_namespaces() {
        for name in ["", "a b", "-x", "longer-than-it-may", "../x"] {
            assert!(matches!(Place::new(name), Err(ClusterError::Name { .. })), "{name:?}");
        }
        let place = Place::new("t1").expect("a name");
        assert_eq!((place.namespace(2).as_str(), place.switch_namespace().as_str()), ("t1-n2", "t1-sw"));
    }

    #[test]
    fn nodes_have_neighbouring_addresses() {
        assert_eq!(address(1).to_string(), "10.77.0.1");
        assert_eq!(address(300).to_string(), "10.77.1.44");
    }

    #[test]
    fn a_command_that_fails_is_named_with_its_complaint() {
        let error = run(&["sh", "-c", "echo no >&2; exit 3"]).expect_err("it fails").to_string();
        assert_eq!(error, "`sh -c echo no >&2; exit 3` failed: no");
        assert!(run(&["no-such-program"]).is_err());
    }
}
