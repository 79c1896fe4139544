//! Slows links down, cuts and heals them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use super::error::ClusterError;
use super::place::{Place, Switch, run};

/// Limits what a node sends and receives, `off` lifts it: `200mbit`, as tc writes it.
///
/// # Errors
/// Those of `tc`, or of the switch.
pub(crate) fn rate(place: &Place, node: usize, rate: &str) -> Result<(), ClusterError> {
    if place.check_node(node)?.switch == Switch::User {
        return tell(place, &format!("rate {node} {}", if rate == "off" { "0" } else { rate }));
    }
    let (namespace, switch, port) = (place.namespace(node), place.switch_namespace(), format!("port{node}"));
    for (namespace, device) in [(&*namespace, "eth0"), (&*switch, &*port)] {
        let qdisc = ["tc", "-netns", namespace, "qdisc"];
        let root = ["dev", device, "root"];
        match rate {
            // no queue is what a link has that was never limited
            "off" => run(&[&qdisc[..], &["replace"], &root, &["noqueue"]].concat())?,
            rate => {
                let tbf = ["tbf", "rate", rate, "burst", "128kb", "latency", "100ms"];
                run(&[&qdisc[..], &["replace"], &root, &tbf].concat())?
            }
        };
    }
    Ok(())
}

/// Pulls the cable of a node, or of two nodes between them.
///
/// # Errors
/// [`ClusterError::NeedsUserSwitch`] for a pair, or those of `ip`.
pub(crate) fn cut(place: &Place, node: usize, other: Option<usize>) -> Result<(), ClusterError> {
    port(place, (node, other), ("cut", "down"))
}

/// Undoes [`cut`].
///
/// # Errors
/// As [`cut`].
pub(crate) fn heal(place: &Place, node: usize, other: Option<usize>) -> Result<(), ClusterError> {
    port(place, (node, other), ("heal", "up"))
}

fn port(place: &Place, nodes: (usize, Option<usize>), words: (&str, &str)) -> Result<(), ClusterError> {
    let (node, other) = nodes;
    let switch = place.check_node(node)?.switch;
    other.map_or(Ok(()), |other| place.check_node(other).map(drop))?;
    match (switch, other) {
        (Switch::User, None) => tell(place, &format!("{} {node}", words.0)),
        (Switch::User, Some(other)) => tell(place, &format!("{} {node} {other}", words.0)),
        (Switch::Bridge, Some(_)) => Err(ClusterError::NeedsUserSwitch { what: "a cut between two nodes" }),
        (Switch::Bridge, None) => {
            let device = format!("port{node}");
            run(&["ip", "-netns", &place.switch_namespace(), "link", "set", &device, words.1]).map(drop)
        }
    }
}

/// Delays what a node sends: `5ms`.
///
/// # Errors
/// [`ClusterError::NeedsUserSwitch`], or the switch's own.
pub(crate) fn delay(place: &Place, node: usize, time: &str) -> Result<(), ClusterError> {
    match place.check_node(node)?.switch {
        Switch::User => tell(place, &format!("delay {node} {time}")),
        Switch::Bridge => Err(ClusterError::NeedsUserSwitch { what: "delay" }),
    }
}

/// Loses a share of what a node sends, 0 to 1.
///
/// # Errors
/// [`ClusterError::NeedsUserSwitch`], or the switch's own.
pub(crate) fn loss(place: &Place, node: usize, share: f64) -> Result<(), ClusterError> {
    match place.check_node(node)?.switch {
        Switch::User => tell(place, &format!("loss {node} {share}")),
        Switch::Bridge => Err(ClusterError::NeedsUserSwitch { what: "loss" }),
    }
}

/// Sends a line to the switch and reads its answer.
fn tell(place: &Place, words: &str) -> Result<(), ClusterError> {
    let socket = place.switch_socket();
    let io = |source| ClusterError::io("talk to", &place.switch_socket())(source);
    let mut stream = UnixStream::connect(&socket).map_err(io)?;
    // in one piece: the switch answers and hangs up once it has read something
    stream.write_all(format!("{words}\n").as_bytes()).map_err(io)?;
    let mut says = String::new();
    BufReader::new(stream).read_line(&mut says).map_err(io)?;
    match says.trim() {
        "ok" => Ok(()),
        says => Err(ClusterError::Command { command: format!("switch: {words}"), says: says.to_owned() }),
    }
}
