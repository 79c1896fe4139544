//! The functions of `nccl.h`, but those of groups and errors.
//!
//! # Safety
//! Of all functions here: pointers that they write through are null or valid, and configurations are as long as they say.

use super::arithmetic::{ReduceOp, Type};
use super::comm::Comm;
use super::group;
use super::hub::{self, Address};
use super::signature::{Kind, Signature};
use super::status::{Status, refuse, remember};
use super::work::Part;
use crate::driver;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// The version that the stand-in says it is: 2.27.5.
const VERSION: c_int = 22_705;

/// An `ncclUniqueId`.
#[derive(Clone, Copy)]
#[repr(C)]
struct UniqueId([u8; 128]);

/// The first fields of an `ncclConfig_t`, which all versions have.
#[repr(C)]
struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
}

/// Writes what a function returns through a pointer.
///
/// # Safety
/// `to` is null or valid for a write.
unsafe fn put<T>(to: *mut T, value: T) -> Status {
    if to.is_null() {
        return refuse(Status::INVALID_ARGUMENT, "a result was asked for at a null pointer");
    }
    // SAFETY: not null, and so valid
    unsafe { to.write(value) };
    Status::SUCCESS
}

/// The communicator behind a handle, or the code of a call with one that is none.
fn known(comm: *mut c_void) -> Result<Arc<Comm>, Status> {
    Comm::at(comm).ok_or_else(|| {
        refuse(Status::INVALID_ARGUMENT, "a communicator that was never made, or is destroyed or aborted")
    })
}

/// The version of NCCL.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn ncclGetVersion(version: *mut c_int) -> Status {
    // SAFETY: as the caller promises
    unsafe { put(version, VERSION) }
}

/// An id under which ranks find each other.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn ncclGetUniqueId(id: *mut UniqueId) -> Status {
    match hub::start() {
        // SAFETY: as the caller promises
        Ok(address) => unsafe { put(id, UniqueId(address.to_id())) },
        Err(error) => refuse(Status::SYSTEM_ERROR, &format!("no hub: {error}")),
    }
}

fn begin(ranks: c_int, id: &UniqueId, rank: c_int, blocking: bool) -> Result<Arc<Comm>, Status> {
    let numbers = (u32::try_from(ranks), u32::try_from(rank));
    let (Ok(ranks), Ok(rank)) = numbers else {
        return Err(refuse(Status::INVALID_ARGUMENT, &format!("rank {rank} of {ranks}")));
    };
    if rank >= ranks {
        return Err(refuse(Status::INVALID_ARGUMENT, &format!("rank {rank} of {ranks}")));
    }
    let Some(address) = Address::of_id(&id.0) else {
        return Err(refuse(Status::INVALID_ARGUMENT, "an id that ncclGetUniqueId has not made"));
    };
    let Some(device) = driver::current().ok().and_then(|device| u32::try_from(device).ok()) else {
        return Err(refuse(Status(1), "no device is current on this thread"));
    };
    Comm::join(address, ranks, rank, device, blocking)
        .map_err(|error| refuse(Status::SYSTEM_ERROR, &format!("the other ranks are not reached: {error}")))
}

/// Makes a communicator; returns when all ranks have come, in a group at its end.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommInitRank(
    comm: *mut *mut c_void,
    ranks: c_int,
    id: UniqueId,
    rank: c_int,
) -> Status {
    // SAFETY: as the caller promises
    unsafe { init(comm, ranks, &id, rank, true) }
}

/// Makes a communicator; with `blocking` 0, returns at once.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommInitRankConfig(
    comm: *mut *mut c_void,
    ranks: c_int,
    id: UniqueId,
    rank: c_int,
    config: *const Config,
) -> Status {
    let blocking = if config.is_null() {
        true
    } else {
        // SAFETY: not null, and so valid
        let config = unsafe { &*config };
        if config.magic != 0xcafe_beef || config.size < size_of::<Config>() {
            return refuse(Status::INVALID_ARGUMENT, "a configuration that was not initialised");
        }
        config.version < 21_400 || config.blocking != 0
    };
    // SAFETY: as the caller promises
    unsafe { init(comm, ranks, &id, rank, blocking) }
}

/// # Safety
/// As above.
unsafe fn init(comm: *mut *mut c_void, ranks: c_int, id: &UniqueId, rank: c_int, blocking: bool) -> Status {
    match begin(ranks, id, rank, blocking) {
        Ok(made) => {
            // SAFETY: as the caller promises
            let placed = unsafe { put(comm, Arc::clone(&made).into_raw()) };
            if placed == Status::SUCCESS { group::join(made) } else { placed }
        }
        Err(status) => status,
    }
}

/// Begins to end a communicator.
#[unsafe(no_mangle)]
extern "C" fn ncclCommFinalize(comm: *mut c_void) -> Status {
    match known(comm) {
        Ok(comm) => {
            comm.finalize();
            comm.accepted()
        }
        Err(status) => status,
    }
}

/// Frees a communicator.
#[unsafe(no_mangle)]
extern "C" fn ncclCommDestroy(comm: *mut c_void) -> Status {
    match known(comm) {
        Ok(known) => {
            known.destroy();
            drop(Comm::forget(comm));
            Status::SUCCESS
        }
        Err(status) => status,
    }
}

/// Ends what a communicator does, and frees it.
#[unsafe(no_mangle)]
extern "C" fn ncclCommAbort(comm: *mut c_void) -> Status {
    match known(comm) {
        Ok(known) => {
            known.abort();
            drop(Comm::forget(comm));
            Status::SUCCESS
        }
        Err(status) => status,
    }
}

/// What has become of a communicator since.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommGetAsyncError(comm: *mut c_void, error: *mut Status) -> Status {
    match known(comm) {
        Ok(comm) => {
            let (status, text) = comm.async_error();
            if !text.is_empty() {
                remember(&text);
            }
            // SAFETY: as the caller promises
            unsafe { put(error, status) }
        }
        Err(status) => status,
    }
}

/// How many ranks a communicator has.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommCount(comm: *mut c_void, count: *mut c_int) -> Status {
    // SAFETY: as the caller promises
    known(comm).map_or_else(|status| status, |comm| unsafe { put(count, comm.ranks.cast_signed()) })
}

/// Which rank this is.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommUserRank(comm: *mut c_void, rank: *mut c_int) -> Status {
    // SAFETY: as the caller promises
    known(comm).map_or_else(|status| status, |comm| unsafe { put(rank, comm.rank.cast_signed()) })
}

/// The device of this rank.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommCuDevice(comm: *mut c_void, device: *mut c_int) -> Status {
    // SAFETY: as the caller promises
    known(comm).map_or_else(|status| status, |comm| unsafe { put(device, comm.device.cast_signed()) })
}

/// The arguments of a collective, as the function has them.
struct Called {
    kind: Kind,
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: u32,
    op: Option<u32>,
    root: Option<c_int>,
}

/// The communicator of a call that it may be made on.
fn usable(comm: *mut c_void) -> Result<Arc<Comm>, Status> {
    let comm = known(comm)?;
    comm.usable().map_err(|(status, text)| refuse(status, &text))?;
    Ok(comm)
}

fn dtype_of(code: u32) -> Result<Type, Status> {
    Type::of(code).ok_or_else(|| refuse(Status::INVALID_ARGUMENT, &format!("data type {code}")))
}

/// A rank that is among those of a communicator.
fn peer(comm: &Comm, rank: c_int) -> Result<u32, Status> {
    match u32::try_from(rank) {
        Ok(rank) if rank < comm.ranks => Ok(rank),
        _ => Err(refuse(Status::INVALID_ARGUMENT, &format!("rank {rank} of {}", comm.ranks))),
    }
}

/// What the ranks of one process read and write of each other's buffers.
fn within_reach(comm: &Comm, addresses: &[u64]) -> Result<(), Status> {
    for device in comm.neighbours() {
        let reaches = |address| driver::reaches(usize::try_from(device).unwrap_or(usize::MAX), address);
        if let Some(address) = addresses.iter().find(|address| !reaches(**address)) {
            let (own, what) = (comm.device, "came from cuMemAllocAsync, and no cuMemPoolSetAccess");
            let text = format!("memory of device {own} at {address:#x} {what} lets device {device} reach it");
            return Err(refuse(Status(1), &text));
        }
    }
    Ok(())
}

fn collective(called: &Called, comm: *mut c_void, stream: *mut c_void) -> Status {
    let built = usable(comm).and_then(|comm| {
        let op = called.op.map(|code| {
            let unknown = || refuse(Status::INVALID_ARGUMENT, &format!("reduction {code}"));
            ReduceOp::of(code).ok_or_else(unknown)
        });
        let signature = Signature {
            kind: called.kind,
            dtype: dtype_of(called.dtype)?,
            count: called.count as u64,
            op: op.transpose()?,
            root: called.root.map(|root| peer(&comm, root)).transpose()?,
        };
        let (from, to) = (called.from.addr() as u64, called.to.addr() as u64);
        within_reach(&comm, &[from, to])?;
        let part = Part::Collective { seq: comm.next_seq(), call: signature, from, to };
        Ok((comm, part))
    });
    match built {
        Ok((comm, part)) => group::call(comm, stream, part),
        Err(status) => status,
    }
}

/// Combines the buffers of all ranks on all ranks.
#[unsafe(no_mangle)]
extern "C" fn ncclAllReduce(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: u32,
    op: u32,
    comm: *mut c_void,
    stream: *mut c_void,
) -> Status {
    let (op, root) = (Some(op), None);
    collective(&Called { kind: Kind::AllReduce, from, to, count, dtype, op, root }, comm, stream)
}

/// Combines the buffers of all ranks, a part for each.
#[unsafe(no_mangle)]
extern "C" fn ncclReduceScatter(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: u32,
    op: u32,
    comm: *mut c_void,
    stream: *mut c_void,
) -> Status {
    let (op, root) = (Some(op), None);
    collective(&Called { kind: Kind::ReduceScatter, from, to, count, dtype, op, root }, comm, stream)
}

/// Joins the buffers of all ranks.
#[unsafe(no_mangle)]
extern "C" fn ncclAllGather(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: u32,
    comm: *mut c_void,
    stream: *mut c_void,
) -> Status {
    let (op, root) = (None, None);
    collective(&Called { kind: Kind::AllGather, from, to, count, dtype, op, root }, comm, stream)
}

/// Gives all ranks the buffer of one.
#[unsafe(no_mangle)]
extern "C" fn ncclBroadcast(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: u32,
    root: c_int,
    comm: *mut c_void,
    stream: *mut c_void,
) -> Status {
    let (op, root) = (None, Some(root));
    collective(&Called { kind: Kind::Broadcast, from, to, count, dtype, op, root }, comm, stream)
}

/// Combines the buffers of all ranks on one.
#[unsafe(no_mangle)]
extern "C" fn ncclReduce(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: u32,
    op: u32,
    root: c_int,
    comm: *mut c_void,
    stream: *mut c_void,
) -> Status {
    let (op, root) = (Some(op), Some(root));
    collective(&Called { kind: Kind::Reduce, from, to, count, dtype, op, root }, comm, stream)
}

/// Sends to a rank.
#[unsafe(no_mangle)]
extern "C" fn ncclSend(
    from: *const c_void,
    count: usize,
    dtype: u32,
    to: c_int,
    comm: *mut c_void,
    stream: *mut c_void,
) -> Status {
    let built = usable(comm).and_then(|comm| {
        let (ty, to) = (dtype_of(dtype)?, peer(&comm, to)?);
        let count = count as u64;
        within_reach(&comm, &[from.addr() as u64])?;
        let part = Part::Send { to, dtype, count, address: from.addr() as u64, bytes: count * ty.bytes() };
        Ok((comm, part))
    });
    match built {
        Ok((comm, part)) => group::call(comm, stream, part),
        Err(status) => status,
    }
}

/// Receives from a rank.
#[unsafe(no_mangle)]
extern "C" fn ncclRecv(
    to: *mut c_void,
    count: usize,
    dtype: u32,
    from: c_int,
    comm: *mut c_void,
    stream: *mut c_void,
) -> Status {
    let built = usable(comm).and_then(|comm| {
        dtype_of(dtype)?;
        let (from, count, ticket) = (peer(&comm, from)?, count as u64, comm.next_ticket());
        let part = Part::Receive { from, dtype, count, ticket, address: to.addr() as u64 };
        Ok((comm, part))
    });
    match built {
        Ok((comm, part)) => group::call(comm, stream, part),
        Err(status) => status,
    }
}
