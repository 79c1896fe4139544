//! Makes connections on a thread of its own: a host that does not answer keeps nobody else waiting.

use crate::rank::Rank;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

/// How long a host has to answer. Each call begins with a new request, so that a healed link is found this soon.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whom to call, and where.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) rank: Rank,
    pub(super) places: Vec<SocketAddr>,
}

/// Whether somebody answered.
#[derive(Debug)]
pub(super) enum Answer {
    Connected(TcpStream),
    /// The host says that nobody listens there.
    Refused,
    Silence,
}

/// Calls until nobody asks for calls any more.
pub(super) fn run(calls: &Receiver<Call>, answers: &Sender<(Rank, Answer)>) {
    while let Ok(Call { rank, places }) = calls.recv() {
        if answers.send((rank, dial(&places))).is_err() {
            return;
        }
    }
}

fn dial(places: &[SocketAddr]) -> Answer {
    let mut answer = Answer::Silence;
    for place in places {
        match TcpStream::connect_timeout(place, PATIENCE) {
            Ok(stream) => return Answer::Connected(stream),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => answer = Answer::Refused,
            Err(_) => {}
        }
    }
    answer
}
