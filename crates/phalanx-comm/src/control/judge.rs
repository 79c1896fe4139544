//! Decides from what a rank knows whether the job has to end, and whose fault it is. No clock, no socket.

use super::board::{Collective, Phase, Status};
use super::handle::Limits;
use super::peer::Reach;
use super::verdict::Cause;
use crate::rank::Rank;
use std::collections::BTreeSet;
use std::time::Duration;

/// What is known of a linked rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) rank: Rank,
    pub(super) host: &'a str,
    /// For how long it was not heard.
    pub(super) silent: Duration,
    pub(super) reach: Reach,
    pub(super) has_died: bool,
}

/// Judges by the signs of life of the linked ranks that have not said goodbye.
///
/// Rank 0 hears all ranks and is the first to judge; the others do so when it did not.
pub(super) fn by_silence(own: (Rank, &str), limit: Duration, seen: &[Seen<'_>]) -> Option<(Rank, Cause)> {
    if let Some(dead) = seen.iter().find(|peer| peer.has_died) {
        return Some((dead.rank, Cause::Died));
    }
    let share = if own.0 == Rank::ZERO { 0.8 } else { 0.9 };
    let waited = seen.iter().map(|peer| peer.silent).max()?;
    if waited < limit.mul_f64(share) {
        return None;
    }
    // those of one host fall silent together, but are not noticed at the same moment
    let is_silent = |peer: &Seen<'_>| peer.silent >= waited.mul_f64(0.7);
    let elsewhere = || seen.iter().filter(|peer| peer.host != own.1);
    let hosts: BTreeSet<&str> = elsewhere().map(|peer| peer.host).collect();
    if hosts.len() > 1 && elsewhere().all(is_silent) {
        return Some((own.0, Cause::CutOff { waited }));
    }
    let lost = seen.iter().find(|peer| is_silent(peer))?;
    let cause = match lost.reach {
        Reach::Answers => Cause::Silent { waited },
        Reach::Unknown | Reach::NoAnswer => Cause::Unreachable { waited },
    };
    Some((lost.rank, cause))
}

/// Where a rank is, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) rank: Rank,
    pub(super) status: Status,
    pub(super) unchanged: Duration,
}

/// Judges by the progress of all ranks that have not said goodbye: somebody waits in a collective for too long, and
/// another rank has not come to it and does nothing.
pub(super) fn by_progress(limits: &Limits, places: &[Place]) -> Option<(Option<Rank>, Cause)> {
    let open = |place: &Place| match place.status.collective {
        Some(Collective { seq, is_open: true, .. }) => Some(seq),
        _ => None,
    };
    let waits = |place: &&Place| place.unchanged >= limits.stall;
    let wanted = places.iter().filter(waits).filter_map(open).max()?;
    let waited =
        places.iter().filter(|place| open(place) == Some(wanted)).map(|place| place.unchanged).max()?;
    let entered = |place: &Place| place.status.collective.map_or(0, |collective| collective.seq);
    let last = places.iter().min_by_key(|place| (place.status.progress(), place.rank))?;
    if entered(last) < wanted {
        let patience = if last.status.phase == Phase::Checkpoint { limits.files } else { limits.stall };
        return (last.unchanged >= patience).then_some((Some(last.rank), Cause::Stalled { waited }));
    }
    let all_wait = places.iter().all(|place| open(place) == Some(wanted) && waits(&place));
    all_wait.then_some((None, Cause::Deadlock { waited }))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::call::OpKind;

    const LIMIT: Duration = Duration::from_secs(10);

    fn seen(rank: usize, host: &str, seconds: u64) -> Seen<'_> {
        let silent = Duration::from_secs(seconds);
        Seen { rank: Rank(rank), host, silent, reach: Reach::NoAnswer, has_died: false }
    }

    #[test]
    fn an_end_is_judged_at_once_and_silence_at_the_limit() {
        let mut peers = [seen(1, "a", 7), seen(2, "b", 0)];
        assert_eq!(by_silence((Rank(0), "a"), LIMIT, &peers), None);
        peers[1].has_died = true;
        assert_eq!(by_silence((Rank(0), "a"), LIMIT, &peers), Some((Rank(2), Cause::Died)));
        assert_eq!(by_silence((Rank(0), "a"), LIMIT, &[]), None);
    }

    #[test]
    fn rank_0_judges_before_the_others() {
        let peers = [seen(1, "b", 8)];
        let waited = Duration::from_secs(8);
        assert_eq!(by_silence((Rank(0), "a"), LIMIT, &peers), Some((Rank(1), Cause::Unreachable { waited })));
        assert_eq!(by_silence((Rank(2), "a"), LIMIT, &peers), None);
    }

    #[test]
    fn a_process_that_stopped_is_told_from_a_host_that_is_gone() {
        let mut peers = [seen(1, "b", 9), seen(2, "c", 0)];
        peers[0].reach = Reach::Answers;
        let waited = Duration::from_secs(9);
        assert_eq!(by_silence((Rank(0), "a"), LIMIT, &peers), Some((Rank(1), Cause::Silent { waited })));
    }

    #[test]
    fn who_hears_no_other_host_blames_its_own_link() {
        let peers = [seen(1, "a", 0), seen(2, "b", 9), seen(3, "c", 8)];
        let waited = Duration::from_secs(9);
        assert_eq!(by_silence((Rank(0), "a"), LIMIT, &peers), Some((Rank(0), Cause::CutOff { waited })));
        // with one other host, either could be cut off
        let two = [seen(1, "a", 0), seen(2, "b", 9), seen(3, "b", 8)];
        assert_eq!(by_silence((Rank(0), "a"), LIMIT, &two).map(|(rank, _)| rank), Some(Rank(2)));
    }

    fn place(rank: usize, seq: u64, is_open: bool, seconds: u64) -> Place {
        let collective = Some(Collective { seq, op: OpKind::AllReduce, is_open });
        let status = Status { step: 1, phase: Phase::Backward, ticks: 0, collective };
        Place { rank: Rank(rank), status, unchanged: Duration::from_secs(seconds) }
    }

    fn limits() -> Limits {
        Limits { silence: LIMIT, stall: LIMIT, files: 4 * LIMIT }
    }

    #[test]
    fn the_one_that_others_wait_for_has_stalled() {
        let places = [place(0, 5, true, 11), place(1, 5, true, 12), place(2, 4, false, 11)];
        let waited = Duration::from_secs(12);
        assert_eq!(by_progress(&limits(), &places), Some((Some(Rank(2)), Cause::Stalled { waited })));
    }

    #[test]
    fn one_that_works_is_waited_for() {
        assert_eq!(by_progress(&limits(), &[place(0, 5, true, 60), place(1, 4, false, 2)]), None);
        assert_eq!(
            by_progress(&limits(), &[place(0, 5, false, 60), place(1, 4, false, 60)]),
            None,
            "nobody waits"
        );
    }

    #[test]
    fn files_get_more_time() {
        let mut places = [place(1, 5, true, 30), place(0, 4, false, 30)];
        places[1].status.phase = Phase::Checkpoint;
        assert_eq!(by_progress(&limits(), &places), None);
        places[1].unchanged = Duration::from_secs(41);
        assert_eq!(by_progress(&limits(), &places).and_then(|(rank, _)| rank), Some(Rank(0)));
    }

    #[test]
    fn all_in_one_collective_is_nobodys_fault() {
        let waited = Duration::from_secs(12);
        let places = [place(0, 5, true, 11), place(1, 5, true, 12)];
        assert_eq!(by_progress(&limits(), &places), Some((None, Cause::Deadlock { waited })));
        assert_eq!(by_progress(&limits(), &[places[0], place(1, 6, true, 3)]), None, "one went on just now");
    }
}
