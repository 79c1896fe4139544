//! What ranks tell each other before they make a communicator, so that none waits for one that cannot.

use crate::error::NcclError;
use crate::library::{NcclLibrary, NcclVersion};
use phalanx_comm::{CommError, Communicator, Rank};

/// The first byte of what a rank says: it can, or why not.
const READY: u8 = 1;
const UNABLE: u8 = 0;

/// What a rank knows of the others when it makes a communicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    /// The unique id of rank 0.
    pub(crate) id: [u8; 128],
    /// The devices of this process's ranks, this one's among them.
    pub(crate) devices: Vec<usize>,
}

/// Shares the unique id of rank 0, once all ranks can use it, and who is where.
///
/// # Collective
/// Every rank of `host`. If one cannot, every rank gets its reason.
pub(crate) fn meet(
    host: &dyn Communicator,
    library: Result<&'static NcclLibrary, NcclError>,
    device: usize,
) -> Result<(&'static NcclLibrary, Met), NcclError> {
    let root = host.rank() == Rank::ZERO;
    let place = Place { process: std::process::id(), device: u32::try_from(device).unwrap_or(u32::MAX) };
    let own = library.and_then(|library| {
        let id = if root { library.unique_id()? } else { [0; 128] };
        Ok((library, Greeting { version: library.version(), id, place }))
    });
    let all = host.all_gather_bytes(&encode(own.as_ref().map(|(_, greeting)| greeting)))?;
    let (library, _) = own?;
    let mut first = None;
    let mut devices = Vec::new();
    for (rank, said) in all.iter().enumerate() {
        let greeting = decode(Rank(rank), said)?;
        let root = *first.get_or_insert(greeting);
        if greeting.version != root.version {
            let cause = Versions { ours: root.version, theirs: greeting.version };
            return Err(CommError::aborted(Rank(rank), &cause).into());
        }
        // a number that a process of another host has too does no harm: its device is one that this host may have
        if greeting.place.process == place.process {
            devices.push(greeting.place.device as usize);
        }
    }
    let id = first.map_or([0; 128], |root| root.id);
    Ok((library, Met { id, devices }))
}

/// What a rank that can says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Greeting {
    version: NcclVersion,
    id: [u8; 128],
    place: Place,
}

/// Where a rank is on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    process: u32,
    device: u32,
}

/// Ranks with libraries that may not understand each other.
#[derive(Debug, thiserror::Error)]
#[error("it has NCCL {theirs}, rank 0 has {ours}: all ranks need the same")]
struct Versions {
    ours: NcclVersion,
    theirs: NcclVersion,
}

fn encode(own: Result<&Greeting, &NcclError>) -> Vec<u8> {
    match own {
        Ok(Greeting { version, id, place }) => {
            let numbers = [version.code(), place.process, place.device];
            let numbers: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
            [&[READY][..], &numbers, id].concat()
        }
        Err(error) => [&[UNABLE][..], error.to_string().as_bytes()].concat(),
    }
}

/// What a rank that can has said.
fn decode(from: Rank, said: &[u8]) -> Result<Greeting, CommError> {
    let short = || CommError::Message { from, what: "greeting", got: said.len(), need: 141 };
    match said.split_first() {
        Some((&READY, rest)) => {
            let (numbers, id) = rest.split_first_chunk::<12>().ok_or_else(short)?;
            let id = <[u8; 128]>::try_from(id).map_err(|_| short())?;
            let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| numbers[at + i]));
            let place = Place { process: number(4), device: number(8) };
            Ok(Greeting { version: NcclVersion::from_code(number(0)), id, place })
        }
        Some((_, text)) => {
            Err(CommError::Aborted { by: from, cause: String::from_utf8_lossy(text).into_owned().into() })
        }
        None => Err(short()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::{Options, WorldSize, run_ranks};

    #[test]
    fn a_rank_without_a_library_ends_all_with_its_reason() {
        let error = run_ranks(WorldSize(3), &Options::default(), |host| {
            let missing = NcclError::NoLibrary { tried: vec!["a.so".to_owned()], cause: "no file".into() };
            meet(&*host, Err(missing), 0).map(|_| ())
        })
        .unwrap_err();
        let cause = std::error::Error::source(&error).expect("the rank's own error").to_string();
        assert!(cause.contains("NCCL is not here: tried a.so: no file"), "{cause}");
    }

    #[test]
    fn a_greeting_is_read_back_or_named() {
        let place = Place { process: 70_000, device: 3 };
        let greeting = Greeting { version: NcclVersion::from_code(22_705), id: [7; 128], place };
        let said = encode(Ok(&greeting));
        assert_eq!(decode(Rank(2), &said), Ok(greeting));
        let error = decode(Rank(2), &said[..100]).unwrap_err();
        assert_eq!(error.to_string(), "the greeting from rank 2 has 100 bytes, needs 141");
        let error = decode(Rank(1), b"\0too old").unwrap_err();
        assert_eq!(error.to_string(), "rank 1 gave up: too old");
    }
}
