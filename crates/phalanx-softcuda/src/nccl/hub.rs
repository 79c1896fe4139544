//! Where the ranks of a communicator meet: compares what they call, computes, answers.

use super::arithmetic;
use super::signature::{Kind, Signature};
use super::status::Status;
use super::wire::Message;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What a unique id says: where the hub is, and which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) port: u16,
    pub(super) key: u64,
}

/// The first bytes of a unique id.
const MAGIC: &[u8; 8] = b"softnccl";

impl Address {
    pub(super) fn to_id(self) -> [u8; 128] {
        let mut id = [0; 128];
        id[..8].copy_from_slice(MAGIC);
        id[8..10].copy_from_slice(&self.port.to_le_bytes());
        id[16..24].copy_from_slice(&self.key.to_le_bytes());
        id
    }

    /// None for an id that no hub made.
    pub(super) fn of_id(id: &[u8; 128]) -> Option<Self> {
        let port = u16::from_le_bytes(id[8..10].try_into().ok()?);
        let key = u64::from_le_bytes(id[16..24].try_into().ok()?);
        (&id[..8] == MAGIC).then_some(Address { port, key })
    }
}

/// Starts a hub, which ends when its ranks have.
pub(super) fn start() -> io::Result<Address> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    // enough to tell a rank of another job that found the port of this one
    let key = u64::from(port) << 32 | u64::from(std::process::id());
    let hub = Arc::new(Hub { key, state: Mutex::default() });
    thread::Builder::new().name("softnccl-hub".to_owned()).spawn(move || hub.serve(&listener))?;
    Ok(Address { port, key })
}

struct Hub {
    key: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// As the first rank says.
    ranks: Option<u32>,
    members: BTreeMap<u32, Member>,
    /// The parts of each collective, by its number and by rank.
    posts: BTreeMap<u64, BTreeMap<u32, (Signature, Vec<u8>)>>,
    /// What was sent and not received, by sender and receiver.
    mail: BTreeMap<(u32, u32), VecDeque<Letter>>,
    /// What is expected and was not sent, by sender and receiver.
    wants: BTreeMap<(u32, u32), VecDeque<Want>>,
    broken: Option<(Status, String)>,
}

struct Member {
    socket: TcpStream,
    process: u32,
    device: u32,
    /// It has said that it goes.
    gone: bool,
}

struct Letter {
    dtype: u32,
    count: u64,
    bytes: Vec<u8>,
}

struct Want {
    dtype: u32,
    count: u64,
    ticket: u64,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes ranks until all have come; from then on, a thread a rank listens to it.
    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        while !self.lock().is_complete() {
            let Ok((socket, _)) = listener.accept() else { return };
            let hub = Arc::clone(self);
            // a rank that cannot be listened to is one that does not come
            thread::Builder::new().name("softnccl-rank".to_owned()).spawn(move || hub.listen(socket)).ok();
        }
    }

    fn listen(&self, mut socket: TcpStream) {
        socket.set_nodelay(true).unwrap_or_default();
        let Ok(Message::Join { key, ranks, rank, process, device }) = Message::read(&mut socket) else {
            return;
        };
        let Ok(writer) = socket.try_clone() else { return };
        let member = Member { socket: writer, process, device, gone: false };
        if key != self.key || !self.lock().join(ranks, rank, member) {
            return;
        }
        loop {
            let message = Message::read(&mut socket);
            let mut state = self.lock();
            match message {
                Ok(Message::Post { seq, signature, bytes }) => state.post(rank, seq, signature, bytes),
                Ok(Message::Send { to, dtype, count, bytes }) => {
                    state.send((rank, to), Letter { dtype, count, bytes });
                }
                Ok(Message::Expect { from, dtype, count, ticket }) => {
                    state.expect((from, rank), Want { dtype, count, ticket });
                }
                Ok(Message::Abort | Message::Leave) => {
                    state.members.entry(rank).and_modify(|member| member.gone = true);
                }
                Ok(_) | Err(_) => {
                    if state.members.get(&rank).is_some_and(|member| !member.gone) {
                        state.fail(Status::REMOTE_ERROR, &format!("rank {rank} is gone"));
                    }
                    return;
                }
            }
        }
    }
}

impl State {
    fn is_complete(&self) -> bool {
        self.ranks.is_some_and(|ranks| self.members.len() == ranks as usize) || self.broken.is_some()
    }

    /// Takes a rank in; whether it could be.
    fn join(&mut self, ranks: u32, rank: u32, member: Member) -> bool {
        let all = *self.ranks.get_or_insert(ranks);
        let twin = self
            .members
            .iter()
            .find(|(_, other)| (other.process, other.device) == (member.process, member.device));
        let refused = if all != ranks {
            Some(format!("ranks disagree on how many there are: {all}, and {ranks} says rank {rank}"))
        } else if self.members.contains_key(&rank) {
            Some(format!("rank {rank} came twice"))
        } else {
            twin.map(|(other, _)| {
                let device = member.device;
                format!("Duplicate GPU detected : rank {rank} and rank {other} both on CUDA device {device}")
            })
        };
        // kept in any case, so that it is told
        let place = if refused.is_some() { u32::MAX - rank } else { rank };
        self.members.insert(place, member);
        if let Some(text) = refused {
            self.fail(Status::INVALID_USAGE, &text);
            return false;
        }
        if let Some((status, text)) = self.broken.clone() {
            self.tell(rank, &Message::Broken { status: status.0, text });
            return false;
        }
        if self.is_complete() {
            (0..all).for_each(|rank| self.tell(rank, &Message::Ready));
        }
        true
    }

    /// Writes to a rank, which may be gone.
    fn tell(&mut self, rank: u32, message: &Message) {
        if let Some(member) = self.members.get_mut(&rank) {
            message.write(&mut member.socket).unwrap_or_default();
        }
    }

    /// Ends the communicator on all ranks.
    fn fail(&mut self, status: Status, text: &str) {
        if self.broken.is_some() {
            return;
        }
        self.broken = Some((status, text.to_owned()));
        let ranks: Vec<u32> = self.members.keys().copied().collect();
        let message = Message::Broken { status: status.0, text: text.to_owned() };
        ranks.into_iter().for_each(|rank| self.tell(rank, &message));
    }

    fn post(&mut self, rank: u32, seq: u64, signature: Signature, bytes: Vec<u8>) {
        let ranks = self.ranks.unwrap_or_default();
        let parts = self.posts.entry(seq).or_default();
        parts.insert(rank, (signature, bytes));
        if parts.values().any(|(other, _)| *other != signature) {
            let calls: Vec<String> =
                parts.iter().map(|(rank, (call, _))| format!("rank {rank} called {call}")).collect();
            let text = format!("ranks disagree at collective {seq}: {}", calls.join(", "));
            return self.fail(Status::INVALID_USAGE, &text);
        }
        if parts.len() < ranks as usize {
            return;
        }
        let Some(parts) = self.posts.remove(&seq) else { return };
        let given: Vec<Vec<u8>> = parts.into_values().map(|(_, bytes)| bytes).collect();
        for (rank, bytes) in (0..).zip(results(&signature, ranks, given)) {
            self.tell(rank, &Message::Result { seq, bytes });
        }
    }

    fn send(&mut self, way: (u32, u32), letter: Letter) {
        match self.wants.entry(way).or_default().pop_front() {
            Some(want) => self.deliver(way, &want, letter),
            None => self.mail.entry(way).or_default().push_back(letter),
        }
    }

    fn expect(&mut self, way: (u32, u32), want: Want) {
        match self.mail.entry(way).or_default().pop_front() {
            Some(letter) => self.deliver(way, &want, letter),
            None => self.wants.entry(way).or_default().push_back(want),
        }
    }

    fn deliver(&mut self, (from, to): (u32, u32), want: &Want, letter: Letter) {
        if (want.dtype, want.count) != (letter.dtype, letter.count) {
            let name = |code| arithmetic::Type::of(code).map_or("?", arithmetic::Type::name);
            let text = format!(
                "rank {from} sends {} x {} to rank {to}, which expects {} x {}",
                name(letter.dtype),
                letter.count,
                name(want.dtype),
                want.count
            );
            return self.fail(Status::INVALID_USAGE, &text);
        }
        self.tell(to, &Message::Received { ticket: want.ticket, bytes: letter.bytes });
    }
}

/// What each rank gets.
fn results(call: &Signature, ranks: u32, given: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let ranks = ranks as usize;
    let all = |bytes: Vec<u8>| vec![bytes; ranks];
    let root = call.root.map_or(0, |root| root as usize);
    match (call.kind, call.op) {
        (Kind::AllReduce, Some(op)) => all(arithmetic::reduce(call.dtype, op, &given)),
        (Kind::Reduce, Some(op)) => {
            let sum = arithmetic::reduce(call.dtype, op, &given);
            let empty = vec![Vec::new(); ranks];
            empty
                .into_iter()
                .enumerate()
                .map(|(rank, none)| if rank == root { sum.clone() } else { none })
                .collect()
        }
        (Kind::ReduceScatter, Some(op)) => {
            let sum = arithmetic::reduce(call.dtype, op, &given);
            let part = sum.len() / ranks.max(1);
            (0..ranks).map(|rank| sum[rank * part..(rank + 1) * part].to_vec()).collect()
        }
        (Kind::Broadcast, _) => all(given.into_iter().nth(root).unwrap_or_default()),
        (Kind::AllGather, _) => all(given.concat()),
        // the exports give every reduction its op
        (Kind::AllReduce | Kind::Reduce | Kind::ReduceScatter, None) => all(Vec::new()),
    }
}
