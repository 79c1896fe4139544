//! Three virtual nodes, whose cables can be pulled.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

use super::fault::RANKS;
use crate::shell::target;

/// The name of the cluster, and of the directory of its files.
const NAME: &str = "faults";

/// A cluster that goes down with its value.
pub(crate) struct Cluster(());

impl Cluster {
    /// Brings it up; `None`, told with the reason, where there can be none.
    pub(crate) fn up() -> Result<Option<Self>> {
        // left by a run that was killed
        cluster(&["down"])?;
        let output = cluster(&["up", &RANKS.to_string(), "--slots", "1"])?;
        if output.status.success() {
            return Ok(Some(Self(())));
        }
        let says = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if !says.contains("needs root") && !says.contains("is not installed") {
            bail!("no virtual cluster: {says}");
        }
        println!("left out: faults on several hosts, {says}");
        Ok(None)
    }

    /// `phalanx cluster` with words such as `cut 2`.
    pub(crate) fn tell(&self, words: &[&str]) -> Result<()> {
        let output = cluster(words)?;
        if !output.status.success() {
            bail!("phalanx cluster {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// A command on the first node.
    pub(crate) fn on_first(&self) -> Command {
        let mut command = phalanx();
        command.args(["cluster", "--name", NAME, "on", "1"]);
        command
    }

    pub(crate) fn hosts(&self) -> String {
        format!("/run/phalanx-cluster/{NAME}/hosts")
    }

    pub(crate) fn ssh(&self) -> String {
        format!("ssh -F /run/phalanx-cluster/{NAME}/ssh_config")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // the next one brings down what is left
        drop(cluster(&["down"]));
    }
}

fn phalanx() -> Command {
    Command::new(target().join("debug/phalanx"))
}

fn cluster(words: &[&str]) -> Result<Output> {
    let output = phalanx().args(["cluster", "--name", NAME]).args(words).output();
    output.context("starting phalanx cluster")
}
