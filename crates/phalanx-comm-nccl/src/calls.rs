//! A collective as ranks compare it, and the functions of NCCL that it is made of.

use crate::error::NcclError;
use crate::span::DeviceSpan;
use phalanx_comm::{Call, CommError, OpKind, Rank, ReduceOp, WorldSize};

/// One function of NCCL with its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    AllReduce { buffer: DeviceSpan, op: ReduceOp },
    ReduceScatter { send: DeviceSpan, recv: DeviceSpan, op: ReduceOp },
    AllGather { send: DeviceSpan, recv: DeviceSpan },
    Broadcast { buffer: DeviceSpan, root: Rank },
    Send { span: DeviceSpan, to: Rank },
    Receive { span: DeviceSpan, from: Rank },
}

/// A collective whose arguments fit together on this rank.
#[derive(Clone, Debug)]
pub(crate) struct Collective {
    /// What all ranks must have called.
    pub(crate) call: Call,
    /// What this rank expects of each, and they of it, where that differs between ranks.
    pub(crate) counts: Option<(Vec<usize>, Vec<usize>)>,
    pub(crate) commands: Vec<Command>,
    /// Bytes that this rank passes.
    pub(crate) bytes: usize,
}

/// The rank that calls, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) rank: Rank,
    pub(crate) size: WorldSize,
}

impl Collective {
    pub(crate) fn all_reduce(buffer: DeviceSpan, op: ReduceOp) -> Self {
        let call = Call::new(OpKind::AllReduce).of(buffer.dtype(), buffer.len()).reducing(op);
        Self::new(call, buffer, vec![Command::AllReduce { buffer, op }])
    }

    pub(crate) fn reduce_scatter(
        place: Place,
        send: DeviceSpan,
        recv: DeviceSpan,
        op: ReduceOp,
    ) -> Result<Self, NcclError> {
        let kind = OpKind::ReduceScatter;
        place.check(kind, [send, recv], [("elements to send", send.len(), recv.len() * place.size.get())])?;
        let call = Call::new(kind).of(send.dtype(), send.len()).reducing(op);
        Ok(Self::new(call, send, vec![Command::ReduceScatter { send, recv, op }]))
    }

    pub(crate) fn all_gather(place: Place, send: DeviceSpan, recv: DeviceSpan) -> Result<Self, NcclError> {
        let kind = OpKind::AllGather;
        place.check(
            kind,
            [send, recv],
            [("elements to receive", recv.len(), send.len() * place.size.get())],
        )?;
        let call = Call::new(kind).of(recv.dtype(), recv.len());
        Ok(Self::new(call, send, vec![Command::AllGather { send, recv }]))
    }

    pub(crate) fn broadcast(place: Place, buffer: DeviceSpan, root: Rank) -> Result<Self, NcclError> {
        if root.index() >= place.size.get() {
            return Err(CommError::Root { root, size: place.size }.into());
        }
        let call = Call::new(OpKind::Broadcast).of(buffer.dtype(), buffer.len()).from_root(root);
        Ok(Self::new(call, buffer, vec![Command::Broadcast { buffer, root }]))
    }

    /// A segment to and from every rank: sends and receives, which NCCL runs at once in a group.
    pub(crate) fn all_to_all(
        place: Place,
        (send, send_counts): (DeviceSpan, &[usize]),
        (recv, recv_counts): (DeviceSpan, &[usize]),
    ) -> Result<Self, NcclError> {
        let (kind, size) = (OpKind::AllToAll, place.size.get());
        let lengths = [
            ("counts to send", send_counts.len(), size),
            ("counts to receive", recv_counts.len(), size),
            ("elements to send", send.len(), send_counts.iter().sum()),
            ("elements to receive", recv.len(), recv_counts.iter().sum()),
        ];
        place.check(kind, [send, recv], lengths)?;
        let mut commands = Vec::with_capacity(2 * size);
        let (mut sent, mut received) = (0, 0);
        for ((rank, out), into) in place.size.ranks().zip(send_counts).zip(recv_counts) {
            if *out > 0 {
                commands.push(Command::Send { span: send.part(sent..sent + out), to: rank });
            }
            if *into > 0 {
                commands.push(Command::Receive { span: recv.part(received..received + into), from: rank });
            }
            (sent, received) = (sent + out, received + into);
        }
        let counts = Some((send_counts.to_vec(), recv_counts.to_vec()));
        // the lengths of ranks may differ, and are compared pair by pair
        Ok(Self { counts, ..Self::new(Call::new(kind).of(send.dtype(), 0), send, commands) })
    }

    fn new(call: Call, passed: DeviceSpan, commands: Vec<Command>) -> Self {
        Self { call, counts: None, commands, bytes: passed.len() * passed.dtype().bytes() }
    }
}

impl Place {
    /// Both spans have one type, and each length is the one needed: what, got and need.
    fn check<const N: usize>(
        self,
        op: OpKind,
        [send, recv]: [DeviceSpan; 2],
        lengths: [(&'static str, usize, usize); N],
    ) -> Result<(), NcclError> {
        if send.dtype() != recv.dtype() {
            return Err(CommError::Types { rank: self.rank, op }.into());
        }
        for (what, got, need) in lengths {
            CommError::check_len(self.rank, op, what, got, need)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::Dtype;

    const PLACE: Place = Place { rank: Rank(1), size: WorldSize(3) };

    fn span(len: usize, dtype: Dtype) -> DeviceSpan {
        // SAFETY: an address that nobody follows
        #[expect(unsafe_code, reason = "the only constructor")]
        unsafe {
            DeviceSpan::from_raw(4096, len, dtype)
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused_with_the_numbers() {
        let (four, five) = (span(4, Dtype::F32), span(5, Dtype::F32));
        let told = |result: Result<Collective, NcclError>| result.unwrap_err().to_string();
        let scatter = Collective::reduce_scatter(PLACE, five, four, ReduceOp::Sum);
        assert_eq!(told(scatter), "rank 1 called reduce_scatter with 5 elements to send, needs 12");
        let gather = Collective::all_gather(PLACE, four, five);
        assert_eq!(told(gather), "rank 1 called all_gather with 5 elements to receive, needs 12");
        let to_all = Collective::all_to_all(PLACE, (five, &[1, 2, 1]), (five, &[5, 0, 0]));
        assert_eq!(told(to_all), "rank 1 called all_to_all with 5 elements to send, needs 4");
        let to_two = Collective::all_to_all(PLACE, (five, &[1, 4]), (five, &[5, 0, 0]));
        assert_eq!(told(to_two), "rank 1 called all_to_all with 2 counts to send, needs 3");
        assert_eq!(told(Collective::broadcast(PLACE, four, Rank(3))), "rank 3 is not among 3 ranks");
        let types = Collective::all_gather(PLACE, span(1, Dtype::U64), span(3, Dtype::F64));
        assert_eq!(told(types), "rank 1 called all_gather with buffers of two element types");
    }

    #[test]
    fn an_all_to_all_sends_and_receives_what_is_not_empty() {
        let (out, into) = (span(5, Dtype::F64), span(4, Dtype::F64));
        let built = Collective::all_to_all(PLACE, (out, &[2, 0, 3]), (into, &[0, 0, 4])).unwrap();
        let told: Vec<(char, usize, u64, usize)> = built
            .commands
            .iter()
            .map(|command| match command {
                Command::Send { span, to } => ('s', to.index(), span.address(), span.len()),
                Command::Receive { span, from } => ('r', from.index(), span.address(), span.len()),
                other => unreachable!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [('s', 0, 4096, 2), ('s', 2, 4096 + 16, 3), ('r', 2, 4096, 4)]);
    }
}
