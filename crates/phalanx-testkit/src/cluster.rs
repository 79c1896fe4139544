//! Tests on a virtual cluster: nodes of their own on this machine, by `phalanx cluster`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::need;

/// A virtual cluster that goes down with its value.
#[derive(Debug)]
pub struct VirtualCluster {
    program: PathBuf,
    name: String,
}

impl VirtualCluster {
    /// Brings up `nodes` nodes by the program `phalanx`; `options` go to `cluster up`.
    ///
    /// Where nodes cannot be had, the test is left out: that is told, and `None` is returned. Under
    /// `PHALANX_REQUIRE=cluster` or `all` it fails instead.
    ///
    /// # Panics
    /// When a cluster is needed and cannot be had, or `phalanx` cannot be started.
    pub fn up(program: &Path, name: &str, nodes: usize, options: &[&str]) -> Option<Self> {
        let cluster = Self { program: program.to_owned(), name: name.to_owned() };
        // left by a test that was killed
        cluster.cluster(&["down"]);
        let nodes = nodes.to_string();
        let up = [&["up", &*nodes], options].concat();
        let output = cluster.cluster(&up);
        if output.status.success() {
            return Some(cluster);
        }
        let says = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        // without root there are no namespaces, without sshd no hosts; anything else is a fault of the cluster
        let is_left_out = says.contains("needs root") || says.contains("is not installed");
        assert!(is_left_out, "no virtual cluster: {says}");
        leave_out(&says);
        None
    }

    /// A command in a node, as `phalanx cluster on` runs it.
    pub fn on(&self, node: usize, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["cluster", "--name", &self.name, "on", &node.to_string()]).args(words);
        command
    }

    /// `phalanx cluster` with more words, such as `cut 2`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn cluster(&self, words: &[&str]) -> Output {
        let output = Command::new(&self.program).args(["cluster", "--name", &self.name]).args(words).output();
        match output {
            Ok(output) => output,
            Err(error) => panic!("{} does not start: {error}", self.program.display()),
        }
    }

    /// The file that lists the nodes.
    pub fn hosts(&self) -> PathBuf {
        self.file("hosts")
    }

    /// The remote shell that enters the nodes.
    pub fn ssh(&self) -> String {
        format!("ssh -F {}", self.file("ssh_config").display())
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/run/phalanx-cluster").join(&self.name).join(name)
    }
}

impl Drop for VirtualCluster {
    fn drop(&mut self) {
        self.cluster(&["down"]);
    }
}

/// Tells that a test on a virtual cluster is left out, and why.
///
/// # Panics
/// Under `PHALANX_REQUIRE=cluster` or `all`.
pub fn leave_out(reason: &str) {
    need::leave_out("cluster", reason);
}
