//! What ranks tell each other on the control channel, and its bytes.

use super::board::{Collective, Phase, Status};
use super::verdict::{Cause, Extremes, Verdict};
use crate::call::OpKind;
use crate::rank::Rank;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of a message; a longer one is refused before it is read.
pub(super) const MAX_LEN: usize = 1024;

/// The most bytes of a rank's own words; the rest is cut off.
const MAX_WORDS: usize = 512;

/// One message, from a rank that the frame names.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Message {
    /// I live, and this is where I am; rank 0 adds how far the ranks are.
    Beat { status: Status, others: Option<Extremes> },
    /// The job is over.
    Verdict(Verdict),
    /// I am done; do not wait for me.
    Goodbye,
}

impl Message {
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Beat { .. } => 1,
            Self::Verdict(_) => 2,
            Self::Goodbye => 3,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Beat { status, others } => {
                put_status(out, status);
                put_extremes(out, others.as_ref());
            }
            Self::Verdict(verdict) => put_verdict(out, verdict),
            Self::Goodbye => {}
        }
    }

    /// Reads the body of a message of this kind; `None` for anything that `encode` does not write.
    pub(super) fn decode(kind: u8, body: &[u8], hosts: &[Arc<str>]) -> Option<Self> {
        let mut body = Body(body);
        let message = match kind {
            1 => Self::Beat { status: body.status()?, others: body.extremes()? },
            2 => Self::Verdict(body.verdict(hosts)?),
            3 => Self::Goodbye,
            _ => return None,
        };
        body.0.is_empty().then_some(message)
    }
}

fn put_status(out: &mut Vec<u8>, status: &Status) {
    let Status { step, phase, ticks, collective } = status;
    let (seq, op, is_open) = collective.map_or((0, 0, false), |c| (c.seq, c.op as u8 + 1, c.is_open));
    out.extend_from_slice(&step.to_le_bytes());
    out.extend_from_slice(&ticks.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&[*phase as u8, op, u8::from(is_open)]);
}

fn put_rank(out: &mut Vec<u8>, rank: Option<Rank>) {
    let number = rank.and_then(|rank| u32::try_from(rank.index()).ok()).unwrap_or(u32::MAX);
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_extremes(out: &mut Vec<u8>, extremes: Option<&Extremes>) {
    out.push(u8::from(extremes.is_some()));
    for (rank, status) in extremes.iter().flat_map(|extremes| [extremes.behind, extremes.ahead]) {
        put_rank(out, Some(rank));
        put_status(out, &status);
    }
}

fn put_verdict(out: &mut Vec<u8>, verdict: &Verdict) {
    let (kind, waited, words) = match &verdict.cause {
        Cause::Died => (0_u8, Duration::ZERO, ""),
        Cause::Silent { waited } => (1, *waited, ""),
        Cause::Unreachable { waited } => (2, *waited, ""),
        Cause::CutOff { waited } => (3, *waited, ""),
        Cause::Stalled { waited } => (4, *waited, ""),
        Cause::Deadlock { waited } => (5, *waited, ""),
        Cause::Failed { message } => (6, Duration::ZERO, &**message),
    };
    put_rank(out, verdict.culprit);
    put_rank(out, Some(verdict.by));
    put_status(out, &verdict.status);
    put_extremes(out, verdict.others.as_ref());
    out.push(kind);
    out.extend_from_slice(&u64::try_from(waited.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
    let cut = (0..=words.len().min(MAX_WORDS)).rev().find(|at| words.is_char_boundary(*at)).unwrap_or(0);
    out.extend_from_slice(&words.as_bytes()[..cut]);
}

/// What is left of a message's body.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn rank(&mut self) -> Option<Option<Rank>> {
        match self.take().map(u32::from_le_bytes)? {
            u32::MAX => Some(None),
            number => usize::try_from(number).ok().map(|number| Some(Rank(number))),
        }
    }

    fn status(&mut self) -> Option<Status> {
        let (step, ticks, seq) = (self.number()?, self.number()?, self.number()?);
        let phase = *Phase::ALL.get(usize::from(self.byte()?))?;
        let (op, is_open) = (usize::from(self.byte()?), self.flag()?);
        let collective = match op.checked_sub(1) {
            None => None,
            Some(op) => Some(Collective { seq, op: *OpKind::ALL.get(op)?, is_open }),
        };
        Some(Status { step, phase, ticks, collective })
    }

    fn extremes(&mut self) -> Option<Option<Extremes>> {
        if !self.flag()? {
            return Some(None);
        }
        let mut one = || Some((self.rank()??, self.status()?));
        Some(Some(Extremes { behind: one()?, ahead: one()? }))
    }

    fn verdict(&mut self, hosts: &[Arc<str>]) -> Option<Verdict> {
        let (culprit, by) = (self.rank()?, self.rank()??);
        let (status, others) = (self.status()?, self.extremes()?);
        let (kind, waited) = (self.byte()?, Duration::from_millis(self.number()?));
        let words = std::str::from_utf8(std::mem::take(&mut self.0)).ok()?;
        let cause = match (kind, words) {
            (0, "") => Cause::Died,
            (1, "") => Cause::Silent { waited },
            (2, "") => Cause::Unreachable { waited },
            (3, "") => Cause::CutOff { waited },
            (4, "") => Cause::Stalled { waited },
            (5, "") => Cause::Deadlock { waited },
            (6, words) => Cause::Failed { message: words.into() },
            _ => return None,
        };
        let host = Arc::clone(hosts.get(culprit.unwrap_or(by).index())?);
        Some(Verdict { culprit, host, cause, status, by, others })
    }
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::control) fn status() -> impl Strategy<Value = Status> {
        let collective = (1..u64::MAX, 0..OpKind::ALL.len(), any::<bool>());
        let collective =
            collective.prop_map(|(seq, op, is_open)| Collective { seq, op: OpKind::ALL[op], is_open });
        (any::<u64>(), 0..Phase::ALL.len(), any::<u64>(), proptest::option::of(collective)).prop_map(
            |(step, phase, ticks, collective)| Status { step, phase: Phase::ALL[phase], ticks, collective },
        )
    }

    fn extremes() -> impl Strategy<Value = Option<Extremes>> {
        let one = || ((0..9_usize).prop_map(Rank), status());
        proptest::option::of((one(), one()).prop_map(|(behind, ahead)| Extremes { behind, ahead }))
    }

    fn cause() -> impl Strategy<Value = Cause> {
        let waited = || (0..u64::from(u32::MAX)).prop_map(Duration::from_millis);
        prop_oneof![
            Just(Cause::Died),
            waited().prop_map(|waited| Cause::Silent { waited }),
            waited().prop_map(|waited| Cause::Unreachable { waited }),
            waited().prop_map(|waited| Cause::CutOff { waited }),
            waited().prop_map(|waited| Cause::Stalled { waited }),
            waited().prop_map(|waited| Cause::Deadlock { waited }),
            ".{0,40}".prop_map(|words| Cause::Failed { message: words.into() }),
        ]
    }

    fn hosts() -> Vec<Arc<str>> {
        (0..9).map(|node| format!("node{node}").into()).collect()
    }

    proptest! {
        #[test]
        fn beats_come_back_as_they_went(status in status(), others in extremes()) {
            let message = Message::Beat { status, others };
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            prop_assert!(bytes.len() <= MAX_LEN);
            prop_assert_eq!(Message::decode(message.kind(), &bytes, &hosts()), Some(message));
        }

        #[test]
        fn verdicts_come_back_as_they_went(
            culprit in proptest::option::of(0..9_usize),
            by in 0..9_usize,
            cause in cause(),
            status in status(),
            others in extremes(),
        ) {
            let host = Arc::clone(&hosts()[culprit.unwrap_or(by)]);
            let culprit = culprit.map(Rank);
            let message = Message::Verdict(Verdict { culprit, host, cause, status, by: Rank(by), others });
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            prop_assert!(bytes.len() <= MAX_LEN);
            prop_assert_eq!(Message::decode(message.kind(), &bytes, &hosts()), Some(message));
        }

        #[test]
        fn any_bytes_are_read_or_refused(kind in 0..5_u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(message) = Message::decode(kind, &bytes, &hosts()) {
                let mut again = Vec::new();
                message.encode(&mut again);
                prop_assert_eq!(Message::decode(kind, &again, &hosts()), Some(message));
            }
        }
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let cause = Cause::Failed { message: "ä".repeat(400).into() };
        let verdict = Verdict {
            culprit: Some(Rank(1)),
            host: "node1".into(),
            cause,
            status: Status::START,
            by: Rank(1),
            others: None,
        };
        let mut bytes = Vec::new();
        Message::Verdict(verdict).encode(&mut bytes);
        let Some(Message::Verdict(read)) = Message::decode(2, &bytes, &hosts()) else { panic!("unreadable") };
        assert_eq!(read.cause, Cause::Failed { message: "ä".repeat(256).into() });
    }
}
