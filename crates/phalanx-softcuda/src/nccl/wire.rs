//! What ranks and the hub write to each other: frames with a tag, numbers and bytes.

use super::signature::Signature;
use std::io::{self, Read, Write};

/// The longest frame that is read: longer ones are not from a rank.
const MOST: u64 = 1 << 32;

/// From a rank to the hub, or back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A rank comes.
    Join { key: u64, ranks: u32, rank: u32, process: u32, device: u32 },
    /// Its part of a collective.
    Post { seq: u64, signature: Signature, bytes: Vec<u8> },
    /// What it sends to another rank.
    Send { to: u32, dtype: u32, count: u64, bytes: Vec<u8> },
    /// What it expects from another rank.
    Expect { from: u32, dtype: u32, count: u64, ticket: u64 },
    /// It gave up.
    Abort,
    /// It is done.
    Leave,
    /// All ranks have come.
    Ready,
    /// What a collective gave.
    Result { seq: u64, bytes: Vec<u8> },
    /// What another rank sent.
    Received { ticket: u64, bytes: Vec<u8> },
    /// The communicator is no more.
    Broken { status: u32, text: String },
}

impl Message {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (tag, words, bytes): (u8, Vec<u64>, &[u8]) = match self {
            Message::Join { key, ranks, rank, process, device } => (
                0,
                [*key].into_iter().chain([*ranks, *rank, *process, *device].map(u64::from)).collect(),
                &[],
            ),
            Message::Post { seq, signature, bytes } => {
                (1, [*seq].into_iter().chain(signature.to_words()).collect(), bytes)
            }
            Message::Send { to, dtype, count, bytes } => {
                (2, vec![(*to).into(), (*dtype).into(), *count], bytes)
            }
            Message::Expect { from, dtype, count, ticket } => {
                (3, vec![(*from).into(), (*dtype).into(), *count, *ticket], &[])
            }
            Message::Abort => (4, Vec::new(), &[]),
            Message::Leave => (5, Vec::new(), &[]),
            Message::Ready => (6, Vec::new(), &[]),
            Message::Result { seq, bytes } => (7, vec![*seq], bytes),
            Message::Received { ticket, bytes } => (8, vec![*ticket], bytes),
            Message::Broken { status, text } => (9, vec![(*status).into()], text.as_bytes()),
        };
        let mut head = vec![tag, u8::try_from(words.len()).unwrap_or(u8::MAX)];
        head.extend((bytes.len() as u64).to_le_bytes());
        head.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        out.write_all(&head)?;
        out.write_all(bytes)?;
        out.flush()
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let mut head = [0; 10];
        from.read_exact(&mut head)?;
        let [tag, words, length @ ..] = head;
        let length = u64::from_le_bytes(length);
        if length > MOST {
            return Err(malformed());
        }
        let mut numbers = vec![0; 8 * usize::from(words)];
        from.read_exact(&mut numbers)?;
        let words: Vec<u64> = numbers
            .chunks_exact(8)
            .map(|word| word.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
            .collect();
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| malformed())?];
        from.read_exact(&mut bytes)?;
        let small = |word: u64| u32::try_from(word).map_err(|_| malformed());
        Ok(match (tag, &words[..]) {
            (0, &[key, ranks, rank, process, device]) => Message::Join {
                key,
                ranks: small(ranks)?,
                rank: small(rank)?,
                process: small(process)?,
                device: small(device)?,
            },
            (1, &[seq, kind, dtype, count, op, root]) => {
                let signature =
                    Signature::from_words([kind, dtype, count, op, root]).ok_or_else(malformed)?;
                Message::Post { seq, signature, bytes }
            }
            (2, &[to, dtype, count]) => Message::Send { to: small(to)?, dtype: small(dtype)?, count, bytes },
            (3, &[from, dtype, count, ticket]) => {
                Message::Expect { from: small(from)?, dtype: small(dtype)?, count, ticket }
            }
            (4, []) => Message::Abort,
            (5, []) => Message::Leave,
            (6, []) => Message::Ready,
            (7, &[seq]) => Message::Result { seq, bytes },
            (8, &[ticket]) => Message::Received { ticket, bytes },
            (9, &[status]) => {
                Message::Broken { status: small(status)?, text: String::from_utf8_lossy(&bytes).into_owned() }
            }
            _ => return Err(malformed()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::{ReduceOp, Type};
    use super::super::signature::Kind;
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        let signature = Signature {
            kind: Kind::ReduceScatter,
            dtype: Type::F16,
            count: 5,
            op: Some(ReduceOp::Max),
            root: None,
        };
        let messages = [
            Message::Join { key: u64::MAX, ranks: 3, rank: 1, process: 77, device: 0 },
            Message::Post { seq: 9, signature, bytes: vec![1, 2, 3] },
            Message::Send { to: 2, dtype: 7, count: 1, bytes: vec![4; 4] },
            Message::Expect { from: 0, dtype: 7, count: 1, ticket: 6 },
            Message::Abort,
            Message::Leave,
            Message::Ready,
            Message::Result { seq: 9, bytes: vec![8] },
            Message::Received { ticket: 6, bytes: Vec::new() },
            Message::Broken { status: 5, text: "ranks differ".to_owned() },
        ];
        let mut sent = Vec::new();
        messages.iter().for_each(|message| message.write(&mut sent).expect("memory takes all"));
        let mut rest = &sent[..];
        let read: Vec<_> = messages.iter().map(|_| Message::read(&mut rest).expect("a message")).collect();
        assert_eq!((read.as_slice(), rest.len()), (&messages[..], 0));
        assert!(Message::read(&mut &[99_u8; 12][..]).is_err());
    }
}
