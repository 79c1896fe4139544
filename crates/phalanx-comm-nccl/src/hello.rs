//! What ranks tell each other before they make a communicator, so that none waits for one that cannot.

use crate::error::NcclError;
use crate::library::{NcclLibrary, NcclVersion};
use phalanx_comm::{CommError, Communicator, Rank};

/// The first byte of what a rank says: it can, or why not.
const READY: u8 = 1;
const UNABLE: u8 = 0;

/// Shares the unique id of rank 0, once all ranks can use it.
///
/// # Collective
/// Every rank of `host`. If one cannot, every rank gets its reason.
pub(crate) fn share_id(
    host: &dyn Communicator,
    library: Result<&'static NcclLibrary, NcclError>,
) -> Result<(&'static NcclLibrary, [u8; 128]), NcclError> {
    let root = host.rank() == Rank::ZERO;
    let own = library.and_then(|library| {
        let id = if root { library.unique_id()? } else { [0; 128] };
        Ok((library, id))
    });
    let all = host.all_gather_bytes(&encode(&own))?;
    let (library, _) = own?;
    let mut first = None;
    for (rank, said) in all.iter().enumerate() {
        let (version, id) = decode(Rank(rank), said)?;
        let (of_root, _) = *first.get_or_insert((version, id));
        if version != of_root {
            let cause = Versions { ours: of_root, theirs: version };
            return Err(CommError::aborted(Rank(rank), &cause).into());
        }
    }
    let id = first.map_or([0; 128], |(_, id)| id);
    Ok((library, id))
}

/// Ranks with libraries that may not understand each other.
#[derive(Debug, thiserror::Error)]
#[error("it has NCCL {theirs}, rank 0 has {ours}: all ranks need the same")]
struct Versions {
    ours: NcclVersion,
    theirs: NcclVersion,
}

fn encode(own: &Result<(&'static NcclLibrary, [u8; 128]), NcclError>) -> Vec<u8> {
    match own {
        Ok((library, id)) => [&[READY][..], &library.version().code().to_le_bytes(), id].concat(),
        Err(error) => [&[UNABLE][..], error.to_string().as_bytes()].concat(),
    }
}

/// The version and the id of a rank that can.
fn decode(from: Rank, said: &[u8]) -> Result<(NcclVersion, [u8; 128]), CommError> {
    let short = || CommError::Message { from, what: "greeting", got: said.len(), need: 133 };
    match said.split_first() {
        Some((&READY, rest)) => {
            let (version, id) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            let id = <[u8; 128]>::try_from(id).map_err(|_| short())?;
            Ok((NcclVersion::from_code(u32::from_le_bytes(*version)), id))
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
            share_id(&*host, Err(missing)).map(|_| ())
        })
        .unwrap_err();
        let cause = std::error::Error::source(&error).expect("the rank's own error").to_string();
        assert!(cause.contains("NCCL is not here: tried a.so: no file"), "{cause}");
    }

    #[test]
    fn a_greeting_is_read_back_or_named() {
        let said = [&[READY][..], &22_705_u32.to_le_bytes(), &[7; 128]].concat();
        assert_eq!(decode(Rank(2), &said), Ok((NcclVersion::from_code(22_705), [7; 128])));
        let error = decode(Rank(2), &said[..100]).unwrap_err();
        assert_eq!(error.to_string(), "the greeting from rank 2 has 100 bytes, needs 133");
        let error = decode(Rank(1), b"\0too old").unwrap_err();
        assert_eq!(error.to_string(), "rank 1 gave up: too old");
    }
}
