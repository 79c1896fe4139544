//! The control channel between ranks of one process: what each fault leads to, and how soon.

use phalanx_comm::control::{
    Board, Card, Cause, Control, Limits, Phase, Port, Refusal, Secret, Verdict, Watched,
};
use phalanx_comm::{OpKind, OpRecord, Options, Rank, WorldSize, run_ranks};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_millis(1500);

/// What a loaded machine may add.
const SLACK: Duration = Duration::from_secs(1);

/// Ranks of one job, each with a channel and with a collective that it is in.
struct Job {
    cards: Vec<Card>,
    board: Arc<Board>,
    collectives: Vec<Arc<AtomicU64>>,
    ranks: Vec<Option<Control>>,
    verdicts: mpsc::Receiver<(Rank, Verdict)>,
}

impl Job {
    /// One rank a host.
    fn start(hosts: &[&str]) -> Self {
        let size = WorldSize(hosts.len());
        let ports: Vec<_> = hosts.iter().map(|host| Port::local(host).expect("a port")).collect();
        let cards: Vec<_> = ports.iter().map(|port| port.card().clone()).collect();
        let (secret, board) = (Secret::random().expect("a secret"), Arc::new(Board::new(size)));
        let collectives: Vec<_> = hosts.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
        let (sender, verdicts) = mpsc::channel();
        let start = |(rank, port): (usize, Port)| {
            let (seq, sender) = (Arc::clone(&collectives[rank]), sender.clone());
            let latest = move || record(seq.load(Ordering::Relaxed));
            let watched = Watched { board: Arc::clone(&board), latest: Arc::new(latest) };
            let told = move |verdict: &Verdict| {
                sender.send((Rank(rank), verdict.clone())).unwrap_or_default();
            };
            let limits = Limits::within(BOUND);
            Control::start(port, Rank(rank), cards.clone(), secret.clone(), watched, limits, told)
                .expect("a channel")
        };
        let ranks = ports.into_iter().enumerate().map(start).map(Some).collect();
        Self { cards, board, collectives, ranks, verdicts }
    }

    fn rank(&self, rank: usize) -> &Control {
        self.ranks[rank].as_ref().expect("it runs")
    }

    /// Every rank enters a collective, and goes on.
    fn work(&self, step: u64) {
        for (rank, seq) in self.collectives.iter().enumerate() {
            self.board.enter(Rank(rank), step, Phase::Reduce);
            seq.store(2 * step, Ordering::Relaxed);
        }
    }

    /// Works for a time, in which nobody may be judged.
    fn work_for(&self, time: Duration) {
        let began = Instant::now();
        let mut step = 1;
        while began.elapsed() < time {
            self.work(step);
            step += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.verdicts.try_recv().ok(), None, "nothing has happened");
    }

    /// The verdicts of `ranks`, which come within the bound.
    fn verdicts_of(&self, ranks: &[usize]) -> Vec<Verdict> {
        let deadline = Instant::now() + BOUND + SLACK;
        let mut all = Vec::new();
        while all.len() < ranks.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let (rank, verdict) = self.verdicts.recv_timeout(left).expect("a verdict within the bound");
            if ranks.contains(&rank.index()) {
                all.push(verdict);
            }
        }
        all
    }
}

/// Even numbers are collectives that are still open.
fn record(seq: u64) -> Option<OpRecord> {
    let at = Duration::from_secs(1);
    let finished = (seq % 2 == 1).then_some(at);
    (seq > 0).then_some(OpRecord { seq, op: OpKind::AllReduce, bytes: 8, started: at, finished })
}

#[test]
fn ranks_that_work_and_leave_are_left_alone() {
    let mut job = Job::start(&["a", "b", "c"]);
    job.work_for(2 * BOUND);
    job.ranks[1] = None;
    job.work_for(BOUND);
    for rank in [0, 2] {
        assert_eq!(job.rank(rank).verdict(), None);
        assert_eq!(job.rank(rank).refused().count, 0);
    }
}

#[test]
fn an_error_of_one_rank_reaches_all_others_at_once() {
    let job = Job::start(&["a", "b", "c", "d"]);
    job.work_for(Duration::from_millis(300));
    let began = Instant::now();
    job.rank(2).fail("no space left on device");
    for verdict in job.verdicts_of(&[0, 1, 2, 3]) {
        assert_eq!((verdict.culprit, &*verdict.host), (Some(Rank(2)), "c"));
        assert_eq!(verdict.cause, Cause::Failed { message: "no space left on device".into() });
        assert_eq!(verdict.status.phase, Phase::Reduce);
        assert!(verdict.others.is_some(), "{verdict}");
    }
    assert!(began.elapsed() < BOUND / 3, "{:?}", began.elapsed());
}

#[test]
fn a_rank_that_loses_its_link_is_named_by_the_others_and_by_itself() {
    for lost in 0..3 {
        let job = Job::start(&["a", "b", "c"]);
        job.work_for(Duration::from_millis(300));
        job.rank(lost).faults().sever();
        for verdict in job.verdicts_of(&[0, 1, 2]) {
            assert_eq!(verdict.culprit, Some(Rank(lost)), "{verdict}");
            assert_eq!(&*verdict.host, ["a", "b", "c"][lost]);
        }
    }
}

#[test]
fn a_link_that_heals_in_time_is_no_failure() {
    let job = Job::start(&["a", "b", "c"]);
    job.work_for(Duration::from_millis(300));
    job.rank(1).faults().sever();
    job.work_for(BOUND / 2);
    job.rank(1).faults().heal();
    job.work_for(2 * BOUND);
}

#[test]
fn a_rank_that_others_wait_for_has_stalled() {
    let job = Job::start(&["a", "b", "c"]);
    job.work_for(Duration::from_millis(300));
    job.collectives[1].store(39, Ordering::Relaxed);
    [0, 2].iter().for_each(|rank: &usize| job.collectives[*rank].store(40, Ordering::Relaxed));
    job.board.enter(Rank(1), 20, Phase::Backward);
    std::thread::sleep(BOUND / 2);
    for verdict in job.verdicts_of(&[0, 1, 2]) {
        assert_eq!(verdict.culprit, Some(Rank(1)));
        assert!(matches!(verdict.cause, Cause::Stalled { .. }), "{verdict}");
        let text = verdict.to_string();
        assert!(
            text.contains("(step 20, backward, after collective 39 (all_reduce)); the others were"),
            "{text}"
        );
    }
}

#[test]
fn strangers_and_changed_messages_are_refused_and_harm_nobody() {
    let job = Job::start(&["a", "b"]);
    let at = (std::net::Ipv4Addr::LOCALHOST, job.cards[0].port);
    let too_long = b"PHXc\x01\x02\xff\xff and more that follows";
    for bytes in [&b"GET / HTTP/1.1\r\nHost: node1\r\n\r\n"[..], &[0; 4096], too_long, &[0xff; 100_000]] {
        let mut stream = TcpStream::connect(at).expect("a port");
        // it may hang up before all is written
        stream.write_all(bytes).unwrap_or_default();
    }
    let _silent = TcpStream::connect(at).expect("a port");
    job.work_for(Duration::from_millis(300));
    let before = job.rank(0).refused().count;
    assert!(before >= 3, "{before}");
    job.rank(1).faults().corrupt_next();
    job.work_for(2 * BOUND);
    let after = job.rank(0).refused();
    assert_eq!((after.count, after.latest), (before + 1, Some(Refusal::Tag)), "the corrupt one");
}

#[test]
fn ranks_of_a_communicator_tell_each_other_where_they_are() {
    let options = Options { timeout: Duration::from_secs(20), ..Options::default() };
    let told = run_ranks(WorldSize(3), &options, |comm| {
        let watched = Watched::board(Arc::new(Board::new(comm.size())));
        let host = format!("node{}", comm.rank().index());
        let control =
            Control::over(&*comm, &host, watched, Limits::within(BOUND), |_| {}).expect("a channel");
        comm.barrier()?;
        if comm.rank() == Rank(1) {
            control.fail("out of memory");
        }
        let verdict = control.wait(BOUND).expect("a verdict");
        comm.barrier()?;
        Ok::<_, phalanx_comm::CommError>(verdict.to_string())
    });
    for text in told.expect("no rank fails") {
        assert!(text.starts_with("rank 1 on node1 failed: out of memory"), "{text}");
    }
}
