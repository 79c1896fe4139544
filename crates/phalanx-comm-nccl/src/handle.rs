//! One communicator of NCCL: every call that takes it.

use crate::calls::Command;
use crate::error::NcclError;
use crate::library::{IN_PROGRESS, NcclLibrary, SUCCESS};
use crate::span::DeviceSpan;
use cudarc::driver::CudaStream;
use cudarc::nccl::sys;
use phalanx_comm::{Dtype, Rank, ReduceOp, WorldSize};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr;

/// The configuration of a communicator as NCCL 2.18 has it; newer ones take their own defaults for what they have besides.
#[repr(C)]
struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    cga_cluster_size: c_int,
    min_ctas: c_int,
    max_ctas: c_int,
    net_name: *const c_char,
    split_share: c_int,
}

/// What stands where nothing was chosen.
const UNDEFINED: c_int = c_int::MIN;

impl Config {
    /// Calls return at once, so that they can be given up.
    const fn non_blocking() -> Self {
        Self {
            size: size_of::<Self>(),
            magic: 0xcafe_beef,
            version: 21_800,
            blocking: 0,
            cga_cluster_size: UNDEFINED,
            min_ctas: UNDEFINED,
            max_ctas: UNDEFINED,
            net_name: ptr::null(),
            split_share: UNDEFINED,
        }
    }
}

/// A communicator of NCCL that is neither destroyed nor aborted.
///
/// No two threads may be in its calls at once: whoever shares it has a lock around it.
pub(crate) struct Handle {
    nccl: &'static NcclLibrary,
    raw: sys::ncclComm_t,
}

// SAFETY: NCCL ties a communicator to no thread; that one thread at a time calls is what `&mut self` is for
unsafe impl Send for Handle {}

impl Handle {
    /// Begins to make a communicator with the other ranks that have this id, for the device that is current.
    pub(crate) fn begin(
        library: &'static NcclLibrary,
        id: &[u8; 128],
        rank: Rank,
        size: WorldSize,
    ) -> Result<Self, NcclError> {
        let id = sys::ncclUniqueId { internal: id.map(u8::cast_signed) };
        let mut config = Config::non_blocking();
        let mut raw = ptr::null_mut();
        let (ranks, rank) = (number(size.get()), number(rank.index()));
        // SAFETY: a place for one communicator, and a configuration as `size` and `version` in it say
        let code = unsafe {
            (library.functions.init_rank_config)(&raw mut raw, ranks, id, rank, (&raw mut config).cast())
        };
        let begun = code == SUCCESS || code == IN_PROGRESS;
        match (begun, raw.is_null()) {
            (true, false) => Ok(Self { nccl: library, raw }),
            (_, true) => Err(library.error("ncclCommInitRankConfig", code, ptr::null_mut())),
            (false, false) => {
                let failed = Self { nccl: library, raw };
                let error = library.error("ncclCommInitRankConfig", code, failed.raw);
                failed.abort();
                Err(error)
            }
        }
    }

    /// Whether what was called last is done; an error may be one of a collective that was enqueued long ago.
    pub(crate) fn is_settled(&mut self) -> Result<bool, NcclError> {
        let mut state = SUCCESS;
        // SAFETY: a communicator that lives, and a place for one code
        let code = unsafe { (self.nccl.functions.async_error)(self.raw, &raw mut state) };
        self.check("ncclCommGetAsyncError", code)?;
        match state {
            SUCCESS => Ok(true),
            IN_PROGRESS => Ok(false),
            error => Err(self.nccl.error("ncclCommGetAsyncError", error, self.raw)),
        }
    }

    /// Enqueues commands, several as a group. They may not have reached the stream before [`Handle::is_settled`].
    pub(crate) fn enqueue(&mut self, commands: &[Command], stream: &CudaStream) -> Result<(), NcclError> {
        if let [command] = commands {
            let (function, code) = self.call(command, stream);
            return self.check(function, code);
        }
        // SAFETY: without arguments
        self.check("ncclGroupStart", unsafe { (self.nccl.functions.group_start)() })?;
        let mut called = Ok(());
        for command in commands {
            let (function, code) = self.call(command, stream);
            called = self.check(function, code);
            if called.is_err() {
                break;
            }
        }
        // SAFETY: without arguments; ends the group in any case
        let ended = self.check("ncclGroupEnd", unsafe { (self.nccl.functions.group_end)() });
        called.and(ended)
    }

    /// The function that a command is, and what it returned.
    fn call(&self, command: &Command, stream: &CudaStream) -> (&'static str, u32) {
        let (functions, comm) = (&self.nccl.functions, self.raw);
        let stream = stream.cu_stream().cast();
        let dtype = |span: &DeviceSpan| datatype(span.dtype());
        match command {
            Command::AllReduce { buffer, op } => {
                let (to, op) = (address(buffer), reduction(*op));
                // SAFETY: the span's maker vouches for the memory, and the communicator lives
                let code =
                    unsafe { (functions.all_reduce)(to, to, buffer.len(), dtype(buffer), op, comm, stream) };
                ("ncclAllReduce", code)
            }
            Command::ReduceScatter { send, recv, op } => {
                let (from, to, op) = (address(send), address(recv), reduction(*op));
                // SAFETY: as above; `send` is as long as `recv` times the ranks
                let code = unsafe {
                    (functions.reduce_scatter)(from, to, recv.len(), dtype(recv), op, comm, stream)
                };
                ("ncclReduceScatter", code)
            }
            Command::AllGather { send, recv } => {
                let (from, to) = (address(send), address(recv));
                // SAFETY: as above; `recv` is as long as `send` times the ranks
                let code = unsafe { (functions.all_gather)(from, to, send.len(), dtype(send), comm, stream) };
                ("ncclAllGather", code)
            }
            Command::Broadcast { buffer, root } => {
                let (to, root) = (address(buffer), number(root.index()));
                // SAFETY: as above
                let code =
                    unsafe { (functions.broadcast)(to, to, buffer.len(), dtype(buffer), root, comm, stream) };
                ("ncclBroadcast", code)
            }
            Command::Send { span, to } => {
                let to = number(to.index());
                // SAFETY: as above
                let code =
                    unsafe { (functions.send)(address(span), span.len(), dtype(span), to, comm, stream) };
                ("ncclSend", code)
            }
            Command::Receive { span, from } => {
                let from = number(from.index());
                // SAFETY: as above
                let code = unsafe {
                    (functions.receive)(address(span), span.len(), dtype(span), from, comm, stream)
                };
                ("ncclRecv", code)
            }
        }
    }

    /// Begins to end the communicator: what was enqueued is done first.
    pub(crate) fn finalize(&mut self) -> Result<(), NcclError> {
        // SAFETY: a communicator that lives
        self.check("ncclCommFinalize", unsafe { (self.nccl.functions.finalize)(self.raw) })
    }

    /// Frees a communicator that was finalized.
    pub(crate) fn destroy(self) -> Result<(), NcclError> {
        let (nccl, raw) = (self.nccl, self.raw);
        // SAFETY: the communicator is used no more, as `self` is gone
        let code = unsafe { (nccl.functions.destroy)(raw) };
        nccl.check("ncclCommDestroy", code)
    }

    /// Ends everything that the communicator does, on this rank, and frees it.
    pub(crate) fn abort(self) {
        // SAFETY: the communicator is used no more, as `self` is gone; what it returns changes nothing any more
        unsafe { (self.nccl.functions.abort)(self.raw) };
    }

    /// A call on a communicator that does not block may be in progress.
    fn check(&self, function: &'static str, code: u32) -> Result<(), NcclError> {
        match code {
            SUCCESS | IN_PROGRESS => Ok(()),
            code => Err(self.nccl.error(function, code, self.raw)),
        }
    }
}

fn address(span: &DeviceSpan) -> *mut c_void {
    ptr::without_provenance_mut(usize::try_from(span.address()).unwrap_or_default())
}

fn number(n: usize) -> c_int {
    c_int::try_from(n).unwrap_or(c_int::MAX)
}

const fn datatype(dtype: Dtype) -> u32 {
    let datatype = match dtype {
        Dtype::F32 => sys::ncclDataType_t::ncclFloat32,
        Dtype::F64 => sys::ncclDataType_t::ncclFloat64,
        Dtype::F16 => sys::ncclDataType_t::ncclFloat16,
        Dtype::Bf16 => sys::ncclDataType_t::ncclBfloat16,
        Dtype::U64 => sys::ncclDataType_t::ncclUint64,
    };
    datatype as u32
}

const fn reduction(op: ReduceOp) -> u32 {
    let op = match op {
        ReduceOp::Sum => sys::ncclRedOp_t::ncclSum,
        ReduceOp::Min => sys::ncclRedOp_t::ncclMin,
        ReduceOp::Max => sys::ncclRedOp_t::ncclMax,
    };
    op as u32
}
