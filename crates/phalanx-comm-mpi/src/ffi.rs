//! The calls of MPI that this crate makes, each with its return code checked.
//!
//! Raw, because the safe methods of rsmpi drop return codes and know no reduction in place. All error handlers are
//! `MPI_ERRORS_RETURN`. MPI is started with `MPI_THREAD_MULTIPLE`, and the library's handles are used under the lock of
//! the lane that owns them.

mod request;
mod ulfm;

pub(crate) use request::{Request, Requests};
pub(crate) use ulfm::{Ulfm, is_loss, leave};

use crate::error::MpiError;
use mpi::ffi::{self, MPI_Comm, MPI_Datatype, MPI_Request};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// The most elements that one call may count. Callers cut longer buffers.
pub(crate) const MOST: usize = c_int::MAX as usize;

/// The type of elements that MPI moves without looking at them, 1, 2, 4 or 8 bytes each.
fn unit(bytes: usize) -> MPI_Datatype {
    // SAFETY: constants that the library has set before `main`
    unsafe {
        match bytes {
            1 => ffi::RSMPI_UINT8_T,
            2 => ffi::RSMPI_UINT16_T,
            4 => ffi::RSMPI_UINT32_T,
            _ => ffi::RSMPI_UINT64_T,
        }
    }
}

/// `MPI_IN_PLACE`, a macro in every `mpi.h`: rsmpi does not bind it.
fn in_place() -> *const c_void {
    static IS_OPEN_MPI: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let is_open_mpi = *IS_OPEN_MPI.get_or_init(|| library_version().contains("Open MPI"));
    // Open MPI has (void *) 1, MPICH and its descendants (void *) -1
    ptr::without_provenance(if is_open_mpi { 1 } else { usize::MAX })
}

fn check(function: &'static str, code: c_int) -> Result<(), MpiError> {
    // MPI_SUCCESS is 0 by the standard
    if code == 0 {
        return Ok(());
    }
    let mut text = vec![0_u8; 1024];
    let mut len = 0;
    // SAFETY: longer than any MPI_MAX_ERROR_STRING
    let told = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &raw mut len) };
    text.truncate(if told == 0 { usize::try_from(len).unwrap_or(0) } else { 0 });
    Err(MpiError::Call { function, code, text: String::from_utf8_lossy(&text).into_owned() })
}

fn count(n: usize) -> c_int {
    debug_assert!(n <= MOST, "callers cut longer buffers");
    c_int::try_from(n).unwrap_or(c_int::MAX)
}

/// The library's name and version, callable before MPI is started.
pub(crate) fn library_version() -> String {
    // longer than any MPI_MAX_LIBRARY_VERSION_STRING (MPICH has 8192)
    let mut text = vec![0_u8; 16 * 1024];
    let mut len = 0;
    // SAFETY: see above
    let code = unsafe { ffi::MPI_Get_library_version(text.as_mut_ptr().cast::<c_char>(), &raw mut len) };
    if code != 0 {
        return String::new();
    }
    CStr::from_bytes_until_nul(&text)
        .map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}

/// Starts MPI for calls from several threads.
pub(crate) fn init() -> Result<(), MpiError> {
    let mut started = 0;
    // SAFETY: callable at any time
    check("MPI_Initialized", unsafe { ffi::MPI_Initialized(&raw mut started) })?;
    if started != 0 {
        return Err(MpiError::Started);
    }
    let mut got = 0;
    // SAFETY: a constant of the library
    let need = unsafe { ffi::RSMPI_THREAD_MULTIPLE };
    // SAFETY: not started before; null for "no arguments" is allowed since MPI 2
    let code = unsafe { ffi::MPI_Init_thread(ptr::null_mut(), ptr::null_mut(), need, &raw mut got) };
    check("MPI_Init_thread", code)?;
    if got < need { Err(MpiError::ThreadLevel { got, need }) } else { Ok(()) }
}

/// Ends MPI. Waits for the other ranks.
pub(crate) fn finalize() -> Result<(), MpiError> {
    // SAFETY: called once, at the end of the world, when no thread of this rank is inside MPI
    check("MPI_Finalize", unsafe { ffi::MPI_Finalize() })
}

/// What a rank sends to all, and what it receives of all.
pub(crate) type SentAndReceived = (Box<[u64]>, Box<[u64]>);

/// A communicator of the library. It is freed with MPI as a whole: to free one is collective, and ranks drop theirs
/// when they like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle(MPI_Comm);

// SAFETY: MPI was started with MPI_THREAD_MULTIPLE, so that a handle may be used from any thread
unsafe impl Send for Handle {}
// SAFETY: as above
unsafe impl Sync for Handle {}

impl Handle {
    /// All ranks, with errors returned.
    pub(crate) fn world() -> Result<Self, MpiError> {
        // SAFETY: a constant of the library
        Self(unsafe { ffi::RSMPI_COMM_WORLD }).returning_errors()
    }

    fn returning_errors(self) -> Result<Self, MpiError> {
        // SAFETY: a live communicator and a constant of the library
        let code = unsafe { ffi::MPI_Comm_set_errhandler(self.0, ffi::RSMPI_ERRORS_RETURN) };
        check("MPI_Comm_set_errhandler", code).map(|()| self)
    }

    pub(crate) fn rank(self) -> Result<usize, MpiError> {
        let mut rank = 0;
        // SAFETY: a live communicator
        check("MPI_Comm_rank", unsafe { ffi::MPI_Comm_rank(self.0, &raw mut rank) })?;
        Ok(usize::try_from(rank).unwrap_or(0))
    }

    pub(crate) fn size(self) -> Result<usize, MpiError> {
        let mut size = 0;
        // SAFETY: a live communicator
        check("MPI_Comm_size", unsafe { ffi::MPI_Comm_size(self.0, &raw mut size) })?;
        Ok(usize::try_from(size).unwrap_or(1))
    }

    /// Collective: a communicator of the same ranks whose messages are apart.
    pub(crate) fn duplicate(self) -> Result<Self, MpiError> {
        let mut raw = self.0;
        // SAFETY: a live communicator
        check("MPI_Comm_dup", unsafe { ffi::MPI_Comm_dup(self.0, &raw mut raw) })?;
        Self(raw).returning_errors()
    }

    /// Collective: one communicator a color, ordered by `key`, then by rank.
    pub(crate) fn split(self, color: Option<usize>, key: usize) -> Result<Option<Self>, MpiError> {
        let mut raw = self.0;
        // SAFETY: a constant of the library
        let undefined = unsafe { ffi::RSMPI_UNDEFINED };
        let wanted = color.map_or(undefined, count);
        // SAFETY: a live communicator
        check("MPI_Comm_split", unsafe { ffi::MPI_Comm_split(self.0, wanted, count(key), &raw mut raw) })?;
        color.map(|_| Self(raw).returning_errors()).transpose()
    }

    /// Collective: the ranks that can share memory with this one, in rank order.
    pub(crate) fn split_shared(self) -> Result<Self, MpiError> {
        let mut raw = self.0;
        // SAFETY: a live communicator and constants of the library
        let code = unsafe {
            let kind = ffi::RSMPI_COMM_TYPE_SHARED;
            ffi::MPI_Comm_split_type(self.0, kind, 0, ffi::RSMPI_INFO_NULL, &raw mut raw)
        };
        check("MPI_Comm_split_type", code)?;
        Self(raw).returning_errors()
    }

    pub(crate) fn barrier(self) -> Result<(), MpiError> {
        // SAFETY: a live communicator
        check("MPI_Barrier", unsafe { ffi::MPI_Barrier(self.0) })
    }

    /// Collective: the bytes of `root`, at most [`MOST`], into the buffers of all.
    pub(crate) fn broadcast(self, buf: &mut [u8], root: usize) -> Result<(), MpiError> {
        let (data, n) = (buf.as_mut_ptr().cast::<c_void>(), count(buf.len()));
        // SAFETY: `n` bytes at `data`; a blocking call
        check("MPI_Bcast", unsafe { ffi::MPI_Bcast(data, n, unit(1), count(root), self.0) })
    }

    /// Collective: `send` of every rank, of one length, in rank order.
    pub(crate) fn all_gather(self, send: &[u64], recv: &mut [u64]) -> Result<(), MpiError> {
        let (n, unit) = (count(send.len()), unit(8));
        // SAFETY: callers give `recv` the length of all `send`s; a blocking call
        let code = unsafe {
            ffi::MPI_Allgather(send.as_ptr().cast(), n, unit, recv.as_mut_ptr().cast(), n, unit, self.0)
        };
        check("MPI_Allgather", code)
    }

    /// Starts the gathering of `send` of every rank into `recv`, both owned by the request.
    pub(crate) fn start_all_gather(
        self,
        send: Box<[u64]>,
        recv: Box<[u64]>,
    ) -> Result<Request<SentAndReceived>, MpiError> {
        let unit = unit(8);
        // SAFETY: the request owns both buffers until it is complete; callers give `recv` the length of all `send`s
        unsafe {
            Request::start((send, recv), |(send, recv), request| {
                let (n, data) = (count(send.len()), recv.as_mut_ptr().cast());
                let code = ffi::MPI_Iallgather(send.as_ptr().cast(), n, unit, data, n, unit, self.0, request);
                check("MPI_Iallgather", code)
            })
        }
    }

    /// Collective: adds at most [`MOST`] floats in place, in MPI's own order.
    pub(crate) fn sum_in_place(self, buf: &mut [f32]) -> Result<(), MpiError> {
        let (data, n) = (buf.as_mut_ptr().cast(), count(buf.len()));
        // SAFETY: `n` floats at `data`, and constants of the library; a blocking call
        let code =
            unsafe { ffi::MPI_Allreduce(in_place(), data, n, ffi::RSMPI_FLOAT, ffi::RSMPI_SUM, self.0) };
        check("MPI_Allreduce", code)
    }

    /// Starts the sum of at most [`MOST`] floats in place, in MPI's own order, in memory that `keep` has on the heap.
    pub(crate) fn start_sum_in_place<K>(
        self,
        keep: K,
        buf: impl for<'a> FnOnce(&'a mut K) -> &'a mut [f32],
    ) -> Result<Request<K>, MpiError> {
        // SAFETY: the request owns the buffer until the call is complete; constants of the library
        unsafe {
            Request::start(keep, |keep, request| {
                let buf = buf(keep);
                let (data, n, float) = (buf.as_mut_ptr().cast(), count(buf.len()), ffi::RSMPI_FLOAT);
                let code = ffi::MPI_Iallreduce(in_place(), data, n, float, ffi::RSMPI_SUM, self.0, request);
                check("MPI_Iallreduce", code)
            })
        }
    }

    /// Starts the broadcast of the bytes of `root`, at most [`MOST`], into those of all, which the request owns.
    pub(crate) fn start_broadcast(self, bytes: Vec<u8>, root: usize) -> Result<Request<Vec<u8>>, MpiError> {
        // SAFETY: the request owns the bytes until it is complete
        unsafe {
            Request::start(bytes, |bytes, request| {
                let (data, n) = (bytes.as_mut_ptr().cast(), count(bytes.len()));
                check("MPI_Ibcast", ffi::MPI_Ibcast(data, n, unit(1), count(root), self.0, request))
            })
        }
    }

    /// Starts `count` messages in memory that `keep` has on the heap: `message(keep, i)` is the `i`th.
    ///
    /// Those with one `tag`, below 32768, arrive between two ranks in the order in which they were started, on the same
    /// communicator. No two of them may lie in the same memory, unless both are sent.
    pub(crate) fn start_messages<K>(
        self,
        keep: K,
        tag: i32,
        count: usize,
        message: impl for<'a> Fn(&'a mut K, usize) -> Message<'a>,
    ) -> Result<Request<K>, MpiError> {
        // SAFETY: the request owns what the messages borrow until they are complete
        unsafe {
            Request::start_each(keep, count, |keep, i, request| match message(keep, i) {
                Message::To(rank, bytes) => self.send(bytes, rank, tag, request),
                Message::From(rank, bytes) => {
                    let (data, n, unit) = (bytes.as_mut_ptr().cast(), self::count(bytes.len()), unit(1));
                    let rank = self::count(rank);
                    check("MPI_Irecv", ffi::MPI_Irecv(data, n, unit, rank, tag, self.0, request))
                }
            })
        }
    }

    /// # Safety
    /// The bytes, at most [`MOST`], live and stay as they are until the request is complete.
    unsafe fn send(
        self,
        bytes: &[u8],
        to: usize,
        tag: i32,
        request: *mut MPI_Request,
    ) -> Result<(), MpiError> {
        let (data, n) = (bytes.as_ptr().cast(), count(bytes.len()));
        // SAFETY: by contract
        check("MPI_Isend", unsafe { ffi::MPI_Isend(data, n, unit(1), count(to), tag, self.0, request) })
    }

    /// Starts to send `bytes`, at most [`MOST`], which the request owns.
    pub(crate) fn start_send(
        self,
        bytes: Box<[u8]>,
        to: usize,
        tag: i32,
    ) -> Result<Request<Box<[u8]>>, MpiError> {
        // SAFETY: the request owns the bytes until it is complete
        unsafe { Request::start(bytes, |bytes, request| self.send(bytes, to, tag, request)) }
    }

    /// A message of any rank, if one is there: its sender, its tag and its bytes.
    pub(crate) fn try_receive(self) -> Result<Option<(usize, i32, Vec<u8>)>, MpiError> {
        let (mut is_there, mut status) = (0, MaybeUninit::uninit());
        // SAFETY: a live communicator, constants of the library, and a place for the status
        let code = unsafe {
            let (any, tag) = (ffi::RSMPI_ANY_SOURCE, ffi::RSMPI_ANY_TAG);
            ffi::MPI_Iprobe(any, tag, self.0, &raw mut is_there, status.as_mut_ptr())
        };
        check("MPI_Iprobe", code)?;
        if is_there == 0 {
            return Ok(None);
        }
        // SAFETY: set, as there is a message
        let status = unsafe { status.assume_init() };
        let mut len = 0;
        // SAFETY: the status of a message
        check("MPI_Get_count", unsafe { ffi::MPI_Get_count(&raw const status, unit(1), &raw mut len) })?;
        let mut bytes = vec![0_u8; usize::try_from(len).unwrap_or(0)];
        // SAFETY: `len` bytes for the message that the status tells of; only this thread receives here, under a lock
        let code = unsafe {
            ffi::MPI_Recv(
                bytes.as_mut_ptr().cast(),
                len,
                unit(1),
                status.MPI_SOURCE,
                status.MPI_TAG,
                self.0,
                ffi::RSMPI_STATUS_IGNORE,
            )
        };
        check("MPI_Recv", code)?;
        Ok(Some((usize::try_from(status.MPI_SOURCE).unwrap_or(0), status.MPI_TAG, bytes)))
    }

    /// Ends all ranks of the job with an exit code. Does not return where the library does as it should.
    pub(crate) fn abort(self, code: u8) {
        // SAFETY: a live communicator; an error means that the library could not, and the caller exits itself
        unsafe { ffi::MPI_Abort(self.0, c_int::from(code)) };
    }
}

/// A message to a rank, or from one: as long as the other side has it.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    To(usize, &'a [u8]),
    From(usize, &'a mut [u8]),
}
