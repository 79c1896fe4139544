//! Into a node, and what is in it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::error::ClusterError;
use super::place::{Place, address, run};

/// The process that keeps a node's host name and mounts.
pub(super) fn holder(place: &Place, node: usize) -> Result<String, ClusterError> {
    let file = place.node_dir(node).join("holder.pid");
    let pid = fs::read_to_string(&file).map_err(ClusterError::io("read", &file))?;
    Ok(pid.trim().to_owned())
}

/// A command in a node. `ip netns exec` would mount a fresh `/sys`, without what other programs look for there.
pub(super) fn command(place: &Place, node: usize, words: &[OsString]) -> Result<Command, ClusterError> {
    let mut command = Command::new("nsenter");
    command.args(["--target", &holder(place, node)?, "--net", "--uts", "--mount"]);
    if let Ok(here) = std::env::current_dir() {
        let mut wdns = OsString::from("--wdns=");
        wdns.push(here);
        command.arg(wdns);
    }
    command.arg("--").args(words);
    Ok(command)
}

/// Becomes a command in a node: its exit code is that of this process.
///
/// # Errors
/// Only ever returns with one.
pub(crate) fn enter(place: &Place, node: usize, words: &[OsString]) -> ClusterError {
    match place.check_node(node).and_then(|_| command(place, node, words)) {
        Ok(mut command) => ClusterError::io("enter", &place.node_dir(node))(command.exec()),
        Err(error) => error,
    }
}

/// The nodes: name, address, processes, and bytes that came and went.
///
/// # Errors
/// [`ClusterError::IsDown`], or when a namespace is gone.
pub(crate) fn status(place: &Place) -> Result<String, ClusterError> {
    let state = place.state()?;
    let mut text =
        format!("{:<8} {:<12} {:>9} {:>12} {:>12}\n", "node", "address", "processes", "received", "sent");
    for node in 1..=state.nodes {
        let namespace = place.namespace(node);
        let pids = run(&["ip", "netns", "pids", &namespace])?.lines().count();
        let bytes = run(&["ip", "-netns", &namespace, "-statistics", "-oneline", "link", "show", "eth0"])?;
        let (received, sent) = traffic(&bytes).unwrap_or_default();
        text += &format!(
            "{:<8} {:<12} {pids:>9} {received:>12} {sent:>12}\n",
            format!("node{node}"),
            address(node)
        );
    }
    Ok(text)
}

/// Bytes received and sent, of one line of `ip -s -o link`: after `RX:` and `TX:`, the numbers stand behind a `\`.
fn traffic(line: &str) -> Option<(u64, u64)> {
    let after = |mark: &str| {
        let (_, rest) = line.split_once(mark)?;
        rest.split('\\').nth(1)?.split_whitespace().next()?.parse().ok()
    };
    Some((after("RX:")?, after("TX:")?))
}

/// Processes of a namespace, which may be gone.
pub(super) fn processes(namespace: &str) -> Vec<i32> {
    let pids = run(&["ip", "netns", "pids", namespace]).unwrap_or_default();
    pids.lines().filter_map(|pid| pid.trim().parse().ok()).collect()
}

/// Ends a process that may have ended.
pub(super) fn kill(pid: i32) -> io::Result<()> {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return Ok(()) };
    match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::traffic;

    #[test]
    fn traffic_is_read_from_one_line() {
        let line = "2: eth0@if3: <UP> mtu 9000 \\    link/ether aa brd ff \\    RX:  bytes packets errors dropped  missed   \
                    mcast           \\         1234      10      0       0       0       0 \\    TX:  bytes packets errors \
                    dropped carrier collsns           \\          987       9      0       0       0       0 ";
        assert_eq!(traffic(line), Some((1234, 987)));
        assert_eq!(traffic("2: eth0"), None);
    }
}
