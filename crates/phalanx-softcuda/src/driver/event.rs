//! Events: how far streams have come.

use super::Code;
use super::context::{broken, working};
use super::device::{code, put};
use super::stream::{self, Step, StreamHandle, advance_one, drive};
use super::table::{Handle, Table};
use std::ffi::c_uint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

/// An event.
#[derive(Debug, Default)]
pub(super) struct Event {
    device: usize,
    /// How often it has been put into a stream.
    recorded: AtomicU64,
    /// How often it has happened.
    happened: AtomicU64,
    /// When it happened last, in nanoseconds since the first event.
    at: AtomicU64,
}

static EVENTS: Table<Event> = Table::new();
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Event {
    pub(super) fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Acquire)
    }

    pub(super) fn has_happened(&self, times: u64) -> bool {
        self.happened.load(Ordering::Acquire) >= times
    }

    pub(super) fn happens(&self, times: u64) {
        self.at.store(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
        self.happened.fetch_max(times, Ordering::AcqRel);
    }
}

pub(super) fn find(event: Handle) -> Result<Arc<Event>, Code> {
    EVENTS.get(event)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(event: *mut Handle, _flags: c_uint) -> Code {
    code(working().and_then(|device| {
        LazyLock::force(&START);
        // SAFETY: as this library's callers promise
        unsafe { put(event, EVENTS.insert(Event { device, ..Event::default() })) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: Handle) -> Code {
    code(EVENTS.remove(event).map(drop))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: Handle, stream: StreamHandle) -> Code {
    code(find(event).and_then(|event| {
        if stream::find(stream)?.device != event.device {
            return Err(Code::INVALID_HANDLE);
        }
        let times = event.recorded.fetch_add(1, Ordering::AcqRel) + 1;
        stream::enqueue(stream, Step::Record(event, times))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecordWithFlags(event: Handle, stream: StreamHandle, _flags: c_uint) -> Code {
    cuEventRecord(event, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: Handle) -> Code {
    code(find(event).and_then(|event| {
        advance_one();
        if let Some(code) = broken(event.device) {
            return Err(code);
        }
        if event.has_happened(event.recorded()) { Ok(()) } else { Err(Code::NOT_READY) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: Handle) -> Code {
    code(find(event).and_then(|event| {
        let times = event.recorded();
        drive(|| event.has_happened(times));
        broken(event.device).map_or(Ok(()), Err)
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, from: Handle, to: Handle) -> Code {
    code(find(from).and_then(|from| {
        let to = find(to)?;
        if from.recorded() == 0 || to.recorded() == 0 {
            return Err(Code::INVALID_HANDLE);
        }
        if !from.has_happened(from.recorded()) || !to.has_happened(to.recorded()) {
            return Err(Code::NOT_READY);
        }
        let [from, to] = [from, to].map(|event| event.at.load(Ordering::Acquire) as f64);
        // SAFETY: as this library's callers promise
        unsafe { put(milliseconds, ((to - from) / 1e6) as f32) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime_v2(milliseconds: *mut f32, from: Handle, to: Handle) -> Code {
    // SAFETY: as this library's callers promise
    unsafe { cuEventElapsedTime(milliseconds, from, to) }
}
