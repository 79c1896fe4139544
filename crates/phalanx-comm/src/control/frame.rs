//! Messages in a stream of bytes: who sends, how long, and a tag that only a rank of the job can make.

use super::message::{MAX_LEN, Message};
use super::secret::{Secret, TAG_LEN};
use crate::rank::Rank;
use std::sync::Arc;

const MAGIC: [u8; 4] = *b"PHXc";
const VERSION: u8 = 1;

/// Magic, version, kind, length, sender, counter.
const HEAD_LEN: usize = 4 + 1 + 1 + 2 + 4 + 8;

/// Why a frame was refused. The stream it came from is not read any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes are of another protocol.
    #[error("the bytes are no control message")]
    Magic,
    /// The other side speaks another version.
    #[error("control messages of version {got}, need {VERSION}")]
    Version {
        /// Its version.
        got: u8,
    },
    /// The message is too long to be one.
    #[error("a control message of {got} bytes, at most {MAX_LEN}")]
    Length {
        /// What its head says.
        got: usize,
    },
    /// The sender does not know the secret of this job, or the message was changed on its way.
    #[error("a control message without the job's secret")]
    Tag,
    /// A message that was heard before.
    #[error("control message {got} of {from} after {last}")]
    Counter {
        /// Who sends.
        from: Rank,
        /// Its number.
        got: u64,
        /// The number of the last one.
        last: u64,
    },
    /// The sender is not whom this stream belongs to.
    #[error("a control message of {got} from another rank's stream")]
    Sender {
        /// Who sends.
        got: Rank,
    },
    /// The message has no meaning.
    #[error("an unreadable control message of kind {kind}")]
    Body {
        /// Its kind.
        kind: u8,
    },
}

/// Puts a message into a frame.
pub(super) fn seal(secret: &Secret, from: Rank, counter: u64, message: &Message) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_LEN + 128 + TAG_LEN);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[VERSION, message.kind(), 0, 0]);
    frame.extend_from_slice(&u32::try_from(from.index()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&counter.to_le_bytes());
    message.encode(&mut frame);
    let len = u16::try_from(frame.len() - HEAD_LEN).unwrap_or(u16::MAX);
    frame[6..8].copy_from_slice(&len.to_le_bytes());
    let tag = secret.tag(&[&frame]);
    frame.extend_from_slice(&tag);
    frame
}

/// A message and who sent it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) from: Rank,
    pub(super) counter: u64,
    pub(super) message: Message,
}

/// Bytes of one stream that have not been a whole message yet.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    pub(super) fn next(&mut self, secret: &Secret, hosts: &[Arc<str>]) -> Result<Option<Opened>, Refusal> {
        let Some((head, rest)) = self.0.split_first_chunk::<HEAD_LEN>() else { return Ok(None) };
        if head[..4] != MAGIC {
            return Err(Refusal::Magic);
        }
        if head[4] != VERSION {
            return Err(Refusal::Version { got: head[4] });
        }
        let len = usize::from(u16::from_le_bytes([head[6], head[7]]));
        if len > MAX_LEN {
            return Err(Refusal::Length { got: len });
        }
        let Some((body, rest)) = rest.split_at_checked(len) else { return Ok(None) };
        let Some((tag, _)) = rest.split_first_chunk::<TAG_LEN>() else { return Ok(None) };
        if !is_equal(tag, &secret.tag(&[head, body])) {
            return Err(Refusal::Tag);
        }
        let kind = head[5];
        let number =
            |at: usize| head[at..].iter().take(4).rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let from = Rank(usize::try_from(number(8)).unwrap_or(usize::MAX));
        let counter = number(12) | number(16) << 32;
        let message = Message::decode(kind, body, hosts).ok_or(Refusal::Body { kind })?;
        self.0.drain(..HEAD_LEN + len + TAG_LEN);
        Ok(Some(Opened { from, counter, message }))
    }
}

/// Looks at every byte, so that the time tells nothing about the right tag.
fn is_equal(a: &[u8; TAG_LEN], b: &[u8; TAG_LEN]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: Secret = Secret::from_bytes([7; 32]);

    fn hosts() -> Vec<Arc<str>> {
        vec!["a".into(), "b".into()]
    }

    fn opened(bytes: &[u8]) -> Result<Option<Opened>, Refusal> {
        let mut inbox = Inbox::default();
        inbox.push(bytes);
        inbox.next(&SECRET, &hosts())
    }

    #[test]
    fn frames_come_back_whole_however_they_are_cut() {
        let mut bytes = seal(&SECRET, Rank(1), 1 << 40, &Message::Goodbye);
        bytes.extend(seal(&SECRET, Rank(1), 2, &Message::Goodbye));
        let mut inbox = Inbox::default();
        let mut counters = Vec::new();
        for byte in bytes {
            inbox.push(&[byte]);
            while let Some(frame) = inbox.next(&SECRET, &hosts()).expect("whole") {
                assert_eq!((frame.from, frame.message), (Rank(1), Message::Goodbye));
                counters.push(frame.counter);
            }
        }
        assert_eq!(counters, [1 << 40, 2]);
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let frame = seal(&SECRET, Rank(0), 1, &Message::Goodbye);
        let changed = |at: usize, byte: u8| {
            let mut frame = frame.clone();
            frame[at] = byte;
            opened(&frame).expect_err("changed")
        };
        assert_eq!(changed(0, b'X'), Refusal::Magic);
        assert_eq!(changed(4, 9), Refusal::Version { got: 9 });
        assert_eq!(changed(7, 0xff), Refusal::Length { got: 0xff00 });
        assert_eq!(changed(12, 5), Refusal::Tag);
        let foreign = seal(&Secret::from_bytes([8; 32]), Rank(0), 1, &Message::Goodbye);
        assert_eq!(opened(&foreign).expect_err("foreign"), Refusal::Tag);
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_never_heard(at in 0..400_usize, bit in 0..8_u8, status in super::super::message::tests::status()) {
            let mut frame = seal(&SECRET, Rank(1), 3, &Message::Beat { status, others: None });
            let at = at % frame.len();
            frame[at] ^= 1 << bit;
            prop_assert!(!matches!(opened(&frame), Ok(Some(_))));
        }
    }
}
