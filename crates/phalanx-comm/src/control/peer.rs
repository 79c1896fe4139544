//! What one rank knows of another that it is linked with.

use super::board::Status;
use super::link::Link;
use crate::rank::{Rank, WorldSize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// The ranks that `own` is linked with: its two neighbours and rank 0; for rank 0 all others.
pub(super) fn linked(own: Rank, size: WorldSize) -> BTreeSet<Rank> {
    let (own, size) = (own.index(), size.get());
    let neighbours = [(own + 1) % size, (own + size - 1) % size, 0];
    let all = if own == 0 { (0..size).collect() } else { neighbours.to_vec() };
    all.into_iter().filter(|rank| *rank != own).map(Rank).collect()
}

/// What a call to a rank's host has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    Unknown,
    Answers,
    NoAnswer,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) rank: Rank,
    pub(super) host: Arc<str>,
    pub(super) link: Option<Link>,
    /// Where it was reached last: other addresses of its card may be those of this host.
    pub(super) address: Option<IpAddr>,
    pub(super) heard: Instant,
    pub(super) status: Status,
    /// When its status was last seen to change.
    pub(super) changed: Instant,
    /// The number of its last message.
    pub(super) counter: u64,
    /// It said goodbye.
    pub(super) has_left: bool,
    /// Its connection ended without a goodbye.
    pub(super) is_broken: bool,
    /// How often its host said since that nobody listens any more.
    pub(super) refusals: u32,
    pub(super) reach: Reach,
    pub(super) is_called: bool,
    pub(super) next_call: Instant,
}

impl Peer {
    pub(super) fn new(rank: Rank, host: Arc<str>, now: Instant) -> Self {
        Self {
            rank,
            host,
            link: None,
            address: None,
            heard: now,
            status: Status::START,
            changed: now,
            counter: 0,
            has_left: false,
            is_broken: false,
            refusals: 0,
            reach: Reach::Unknown,
            is_called: false,
            next_call: now,
        }
    }

    /// Whether its process has ended: the connection did, and twice since nobody listened.
    pub(super) fn has_died(&self) -> bool {
        self.is_broken && self.refusals >= 2
    }

    pub(super) fn attach(&mut self, link: Link) {
        self.address = link.address().or(self.address);
        self.link = Some(link);
        self.is_broken = false;
        self.refusals = 0;
        self.reach = Reach::Answers;
    }

    pub(super) fn detach(&mut self, now: Instant) {
        self.link = None;
        self.is_broken = true;
        self.next_call = now;
    }

    pub(super) fn hear(&mut self, status: Status, now: Instant) {
        if status != self.status {
            self.status = status;
            self.changed = now;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_rank_has_its_neighbours_and_rank_0() {
        let of =
            |own, size| linked(Rank(own), WorldSize(size)).into_iter().map(Rank::index).collect::<Vec<_>>();
        assert_eq!(of(0, 5), [1, 2, 3, 4]);
        assert_eq!(of(3, 5), [0, 2, 4]);
        assert_eq!(of(4, 5), [0, 3]);
        assert_eq!(of(1, 2), [0]);
        assert_eq!(of(0, 1), [0_usize; 0]);
    }

    #[test]
    fn links_are_seen_from_both_ends() {
        for size in 1..9 {
            for a in 0..size {
                for b in linked(Rank(a), WorldSize(size)) {
                    assert!(linked(b, WorldSize(size)).contains(&Rank(a)), "{a} and {b} of {size}");
                }
            }
        }
    }
}
