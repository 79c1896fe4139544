//! The channel's thread: hears and calls the linked ranks, tells them where this one is, and judges.

use super::board::Status;
use super::card::{Card, Port};
use super::dial::{self, Answer, Call};
use super::frame::{Opened, Refusal, seal};
use super::handle::{Limits, Shared, Watched};
use super::judge::{self, Place, Seen};
use super::link::{Heard, Link};
use super::message::Message;
use super::peer::{Peer, Reach, linked};
use super::secret::Secret;
use super::verdict::{Cause, Extremes, Verdict};
use crate::rank::{Rank, WorldSize};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What the holder of the channel asks for.
#[derive(Debug)]
pub(super) enum Command {
    Fail(Arc<str>),
    Leave,
}

/// What the program does when the job has to end.
pub(super) type OnVerdict = Box<dyn FnOnce(&Verdict) + Send>;

/// Between two looks at the links.
const LOOK: Duration = Duration::from_millis(20);

/// The same until all links are made.
const FIRST_LOOKS: Duration = Duration::from_millis(2);

/// Between two calls of a rank whose connection ended.
const CALL_AGAIN: Duration = Duration::from_millis(150);

/// How long a last word may take.
const LAST_WORD: Duration = Duration::from_millis(100);

pub(super) struct Agent {
    own: Rank,
    hosts: Vec<Arc<str>>,
    cards: Vec<Card>,
    secret: Secret,
    watched: Watched,
    limits: Limits,
    shared: Arc<Shared>,
    on_verdict: Option<OnVerdict>,
    listener: TcpListener,
    peers: BTreeMap<Rank, Peer>,
    /// Connections that have not said yet whose they are.
    strangers: Vec<Link>,
    calls: mpsc::Sender<Call>,
    answers: mpsc::Receiver<(Rank, Answer)>,
    counter: u64,
    /// When this rank's own status was last seen to change.
    latest: (Status, Instant),
    /// How far the ranks are, from rank 0's last beat.
    told: Option<Extremes>,
    is_linked: bool,
    next_beat: Instant,
    /// Before which a new step or phase is not worth a beat of its own.
    next_news: Instant,
    last_look: Instant,
}

impl Agent {
    #[expect(clippy::too_many_arguments, reason = "what a channel is made of")]
    pub(super) fn new(
        port: Port,
        own: Rank,
        cards: Vec<Card>,
        secret: Secret,
        watched: Watched,
        limits: Limits,
        shared: Arc<Shared>,
        on_verdict: OnVerdict,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let (calls, asked) = mpsc::channel();
        let (answered, answers) = mpsc::channel();
        std::thread::Builder::new()
            .name("control-dial".to_owned())
            .spawn(move || dial::run(&asked, &answered))?;
        let hosts: Vec<_> = cards.iter().map(|card| Arc::clone(&card.host)).collect();
        let linked = linked(own, WorldSize(cards.len()));
        let peers =
            linked.into_iter().map(|rank| (rank, Peer::new(rank, Arc::clone(&hosts[rank.index()]), now)));
        let latest = (watched.status(own), now);
        Ok(Self {
            own,
            peers: peers.collect(),
            hosts,
            cards,
            secret,
            watched,
            limits,
            shared,
            on_verdict: Some(on_verdict),
            listener: port.listener,
            strangers: Vec::new(),
            calls,
            answers,
            counter: 0,
            latest,
            told: None,
            is_linked: false,
            next_beat: now,
            next_news: now,
            last_look: now,
        })
    }

    pub(super) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        loop {
            match commands.recv_timeout(if self.is_linked { LOOK } else { FIRST_LOOKS }) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Ok(Command::Fail(message)) => {
                    self.judge_culprit(Some(self.own), Cause::Failed { message });
                }
                Ok(Command::Leave) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.tell(&Message::Goodbye);
                    return;
                }
            }
            self.look(Instant::now());
        }
    }

    fn look(&mut self, now: Instant) {
        self.forgive_own_pause(now);
        self.last_look = now;
        if self.shared.faults.is_severed() {
            self.answers.try_iter().for_each(|(rank, _)| {
                self.peers.entry(rank).and_modify(|peer| peer.is_called = false);
            });
        } else {
            self.welcome();
            self.answer(now);
            self.hear(now);
            self.notice_links();
            if now >= self.next_beat || (now >= self.next_news && self.has_moved()) {
                self.next_beat = now + self.limits.pause();
                self.next_news = now + self.limits.pause() / 10;
                self.beat(now);
            }
            self.peers.values_mut().filter_map(|peer| peer.link.as_mut()).for_each(|link| {
                link.flush();
            });
            self.call(now);
        }
        if self.shared.verdict().is_none() {
            self.judge(now);
        }
    }

    /// A process that was stopped and goes on has heard nobody for its own reasons: the others are not to blame.
    fn forgive_own_pause(&mut self, now: Instant) {
        if now.duration_since(self.last_look) > self.limits.silence / 5 {
            for peer in self.peers.values_mut() {
                (peer.heard, peer.changed) = (now, now);
            }
            self.latest.1 = now;
        }
    }

    /// Takes connections, as many as the job has ranks and a few more.
    fn welcome(&mut self) {
        while self.strangers.len() < self.cards.len() + 16 {
            let Ok((stream, _)) = self.listener.accept() else { return };
            self.strangers.extend(Link::new(stream));
        }
    }

    fn answer(&mut self, now: Instant) {
        while let Ok((rank, answer)) = self.answers.try_recv() {
            let is_caller = self.calls_for(rank);
            let Some(peer) = self.peers.get_mut(&rank) else { continue };
            peer.is_called = false;
            match answer {
                Answer::Connected(stream) => {
                    peer.reach = Reach::Answers;
                    peer.refusals = 0;
                    if let (true, Ok(link)) = (is_caller, Link::new(stream)) {
                        peer.attach(link);
                        self.next_beat = now;
                    }
                }
                Answer::Refused => peer.refusals += 1,
                Answer::Silence => peer.reach = Reach::NoAnswer,
            }
        }
    }

    /// Of two linked ranks, the higher one calls.
    fn calls_for(&self, rank: Rank) -> bool {
        self.own > rank
    }

    fn hear(&mut self, now: Instant) {
        for mut link in std::mem::take(&mut self.strangers) {
            let is_open = link.receive() && now.duration_since(link.since) < self.limits.silence;
            match link.next(&self.secret, &self.hosts) {
                Heard::Nothing if is_open => self.strangers.push(link),
                Heard::Nothing => {}
                Heard::Message(opened) => match self.fresh(&opened) {
                    Ok(peer) => {
                        peer.attach(link);
                        self.take(opened, now);
                        self.next_beat = now;
                    }
                    Err(refusal) => self.refuse(refusal),
                },
                Heard::Refused(refusal) => self.refuse(refusal),
            }
        }
        let ranks: Vec<Rank> = self.peers.keys().copied().collect();
        ranks.into_iter().for_each(|rank| self.hear_from(rank, now));
    }

    fn hear_from(&mut self, rank: Rank, now: Instant) {
        let Some(peer) = self.peers.get_mut(&rank) else { return };
        let Some(mut link) = peer.link.take() else { return };
        let is_open = link.receive();
        loop {
            match link.next(&self.secret, &self.hosts) {
                Heard::Message(opened) => {
                    let from = opened.from;
                    let refusal = self.fresh(&opened).err();
                    let refusal = refusal.or((from != rank).then_some(Refusal::Sender { got: from }));
                    if let Some(refusal) = refusal {
                        self.refuse(refusal);
                        break;
                    }
                    self.take(opened, now);
                }
                Heard::Nothing if is_open => {
                    self.peers.entry(rank).and_modify(|peer| peer.link = Some(link));
                    return;
                }
                Heard::Nothing => break,
                Heard::Refused(refusal) => {
                    self.refuse(refusal);
                    break;
                }
            }
        }
        self.peers.entry(rank).and_modify(|peer| peer.detach(now));
    }

    /// Tells the holder when all linked ranks have been heard.
    fn notice_links(&mut self) {
        if !self.is_linked && self.peers.values().all(|peer| peer.counter > 0) {
            self.is_linked = true;
            self.shared.link();
        }
    }

    /// The linked rank that a message is of, if it was not heard before.
    fn fresh(&mut self, opened: &Opened) -> Result<&mut Peer, Refusal> {
        let Opened { from, counter: got, .. } = *opened;
        let peer = self.peers.get_mut(&from).ok_or(Refusal::Sender { got: from })?;
        match peer.counter {
            last if got <= last => Err(Refusal::Counter { from, got, last }),
            _ => Ok(peer),
        }
    }

    fn refuse(&self, refusal: Refusal) {
        self.shared.refuse(refusal);
    }

    fn take(&mut self, Opened { from, counter, message }: Opened, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        (peer.counter, peer.heard) = (counter, now);
        match message {
            Message::Beat { status, others } => {
                peer.hear(status, now);
                if from == Rank::ZERO {
                    self.told = others;
                }
            }
            Message::Goodbye => peer.has_left = true,
            Message::Verdict(verdict) => self.adopt(verdict),
        }
    }

    /// Whether the step or the phase is not the one that the others were told.
    fn has_moved(&self) -> bool {
        let status = self.watched.board.of(self.own);
        (status.step, status.phase) != (self.latest.0.step, self.latest.0.phase)
    }

    fn beat(&mut self, now: Instant) {
        let status = self.watched.status(self.own);
        if status != self.latest.0 {
            self.latest = (status, now);
        }
        let others = if self.own == Rank::ZERO { self.extremes(None) } else { None };
        let mut frame = self.sealed(&Message::Beat { status, others });
        if let (true, Some(byte)) = (self.shared.faults.takes_corruption(), frame.last_mut()) {
            *byte ^= 1;
        }
        let verdict = self.shared.verdict().clone();
        let verdict = verdict.map(|verdict| self.sealed(&Message::Verdict((*verdict).clone())));
        for link in self.peers.values_mut().filter_map(|peer| peer.link.as_mut()) {
            link.send_fresh(&frame);
            // for ranks that were out of reach when it was given
            if let Some(verdict) = &verdict {
                link.send_fresh(verdict);
            }
        }
    }

    fn sealed(&mut self, message: &Message) -> Vec<u8> {
        self.counter += 1;
        seal(&self.secret, self.own, self.counter, message)
    }

    /// Calls who has to be called: ranks whose connection ended or was never made, and hosts of silent ranks, to see
    /// whether they answer.
    fn call(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            let is_silent = now.duration_since(peer.heard) > self.limits.silence.mul_f64(0.4);
            let is_caller = self.own > peer.rank;
            let is_due = (peer.link.is_none() && (is_caller || peer.is_broken)) || is_silent;
            if peer.has_left || peer.is_called || !is_due || now < peer.next_call {
                continue;
            }
            let card = &self.cards[peer.rank.index()];
            let places = match peer.address {
                Some(address) => vec![SocketAddr::new(address, card.port)],
                None => card.places(&self.hosts[self.own.index()]),
            };
            peer.is_called = self.calls.send(Call { rank: peer.rank, places }).is_ok();
            peer.next_call = now + if is_silent { self.limits.silence / 6 } else { CALL_AGAIN };
        }
    }

    fn judge(&mut self, now: Instant) {
        let own_host = Arc::clone(&self.hosts[self.own.index()]);
        let present = || self.peers.values().filter(|peer| !peer.has_left);
        let seen: Vec<_> = present()
            .map(|peer| Seen {
                rank: peer.rank,
                host: &peer.host,
                silent: now.duration_since(peer.heard),
                reach: peer.reach,
                has_died: peer.has_died(),
            })
            .collect();
        if let Some((rank, cause)) = judge::by_silence((self.own, &own_host), self.limits.silence, &seen) {
            return self.judge_culprit(Some(rank), cause);
        }
        if self.own != Rank::ZERO {
            return;
        }
        let places = present().map(|peer| Place {
            rank: peer.rank,
            status: peer.status,
            unchanged: now.duration_since(peer.changed),
        });
        let own =
            Place { rank: self.own, status: self.latest.0, unchanged: now.duration_since(self.latest.1) };
        let places: Vec<_> = std::iter::once(own).chain(places).collect();
        if places.len() > 1
            && let Some((rank, cause)) = judge::by_progress(&self.limits, &places)
        {
            self.judge_culprit(rank, cause);
        }
    }

    fn judge_culprit(&mut self, culprit: Option<Rank>, cause: Cause) {
        let status = match culprit.filter(|rank| *rank != self.own) {
            Some(rank) => self.peers.get(&rank).map_or(Status::START, |peer| peer.status),
            None => self.watched.status(self.own),
        };
        let host = Arc::clone(&self.hosts[culprit.unwrap_or(self.own).index()]);
        let others = self.extremes(culprit);
        self.adopt(Verdict { culprit, host, cause, status, by: self.own, others });
    }

    /// How far the ranks are, without `left_out`; as seen from here, which is all of it on rank 0.
    fn extremes(&self, left_out: Option<Rank>) -> Option<Extremes> {
        let told = self.told.iter().flat_map(|told| [told.behind, told.ahead]);
        let linked = self.peers.values().filter(|peer| !peer.has_left).map(|peer| (peer.rank, peer.status));
        let own = (self.own, self.watched.status(self.own));
        // what is known at first hand replaces what was told
        let known: BTreeMap<Rank, Status> = told.chain(linked).chain([own]).collect();
        Extremes::of(
            known.iter().map(|(rank, status)| (*rank, *status)).filter(|(rank, _)| Some(*rank) != left_out),
        )
    }

    /// The first verdict holds: it goes on to the linked ranks, then the program is told.
    fn adopt(&mut self, verdict: Verdict) {
        if self.shared.verdict().is_some() {
            return;
        }
        let verdict = Arc::new(verdict);
        self.shared.give(Arc::clone(&verdict));
        if !self.shared.faults.is_severed() {
            self.tell(&Message::Verdict((*verdict).clone()));
        }
        if let Some(on_verdict) = self.on_verdict.take() {
            on_verdict(&verdict);
        }
    }

    /// Sends a message to all linked ranks, and waits a little until it has left.
    fn tell(&mut self, message: &Message) {
        let frame = self.sealed(message);
        let mut links: Vec<_> = self.peers.values_mut().filter_map(|peer| peer.link.as_mut()).collect();
        links.iter_mut().for_each(|link| link.send(&frame));
        let began = Instant::now();
        while began.elapsed() < LAST_WORD && !links.iter_mut().all(|link| link.flush()) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
