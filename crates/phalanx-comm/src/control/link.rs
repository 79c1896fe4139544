//! One TCP connection that never blocks.

use super::frame::{Inbox, Opened, Refusal};
use super::secret::Secret;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// The most bytes that are read at once: beats are small, a stranger's flood is not.
const MAX_READ: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    inbox: Inbox,
    unsent: Vec<u8>,
    /// When the connection was made.
    pub(super) since: Instant,
}

/// What came of looking at a link.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message.
    Message(Opened),
    /// Nothing more for now.
    Nothing,
    /// Something that no rank of this job says.
    Refused(Refusal),
}

impl Link {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, inbox: Inbox::default(), unsent: Vec::new(), since: Instant::now() })
    }

    /// Takes what has arrived; false when the other side has ended the connection.
    pub(super) fn receive(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let mut total = 0;
        while total < MAX_READ {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(len) => {
                    self.inbox.push(&buffer[..len]);
                    total += len;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// The next message of what has arrived.
    pub(super) fn next(&mut self, secret: &Secret, hosts: &[Arc<str>]) -> Heard {
        match self.inbox.next(secret, hosts) {
            Ok(Some(opened)) => Heard::Message(opened),
            Ok(None) => Heard::Nothing,
            Err(refusal) => Heard::Refused(refusal),
        }
    }

    /// Sends a frame unless an earlier one is still on its way: beats that pile up tell nothing new.
    pub(super) fn send_fresh(&mut self, frame: &[u8]) {
        if self.flush() {
            self.send(frame);
        }
    }

    /// Sends a frame after all others.
    pub(super) fn send(&mut self, frame: &[u8]) {
        self.unsent.extend_from_slice(frame);
        self.flush();
    }

    /// Writes what is unsent; true when nothing is left. A broken connection is found by [`receive`](Self::receive).
    pub(super) fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) if len > 0 => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return false,
            }
        }
        true
    }

    /// Where the other side is.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.stream.peer_addr().ok().map(|address| address.ip().to_canonical())
    }
}
