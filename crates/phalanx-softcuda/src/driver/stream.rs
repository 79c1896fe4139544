//! Streams: queues of work, and who does it when.
//!
//! Work is done by the threads that call the driver. In an eager schedule what is enqueued is done at once, as far as it does not
//! wait for something; in a lazy one only when somebody waits. Work that is not ready yet, such as a collective whose other
//! ranks are late, says so and is asked again.

use super::context::{break_device, broken, working};
use super::device::{code, put};
use super::event::Event;
use super::table::{Handle, Table};
use super::{Code, mix};
use crate::config::{self, Schedule};
use crate::fault::Fault;
use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A stream as C holds it.
pub(crate) type StreamHandle = Handle;

/// Whether work is done.
pub(crate) enum Progress {
    /// Not yet: ask again.
    Pending,
    Done(Result<(), Fault>),
}

/// What stands in a queue.
pub(super) enum Step {
    Work(Box<dyn FnMut() -> Progress + Send>),
    /// The event has happened as often as that.
    Record(Arc<Event>, u64),
    /// Goes on when the event has happened as often as that.
    Wait(Arc<Event>, u64),
}

/// A stream.
pub(super) struct Stream {
    pub(super) device: usize,
    /// Whether it waits for the default stream, and that for it.
    blocking: bool,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    steps: VecDeque<Step>,
    /// Whether a thread does the first step right now.
    busy: bool,
}

static STREAMS: Table<Stream> = Table::new();

/// The default stream of each device, made when it is first used.
static DEFAULTS: LazyLock<Mutex<Vec<Option<Arc<Stream>>>>> = LazyLock::new(Mutex::default);

/// How often the order has been drawn.
static DRAWS: AtomicU64 = AtomicU64::new(0);

/// The next number of a lazy schedule.
pub(super) fn draw() -> Option<u64> {
    match config::get().schedule {
        Schedule::Eager => None,
        Schedule::Lazy { seed } => Some(mix(mix(seed) ^ DRAWS.fetch_add(1, Ordering::Relaxed))),
    }
}

impl Stream {
    fn new(device: usize, blocking: bool) -> Self {
        Self { device, blocking, queue: Mutex::default() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_idle(&self) -> bool {
        let queue = self.queue();
        queue.steps.is_empty() && !queue.busy
    }

    /// Does the first step, if that can be done.
    fn advance(&self) -> bool {
        let mut queue = self.queue();
        if queue.busy {
            return false;
        }
        let ready = match queue.steps.front() {
            None => false,
            Some(Step::Wait(event, times)) => event.has_happened(*times),
            Some(_) => true,
        };
        if !ready {
            return false;
        }
        let Some(step) = queue.steps.pop_front() else { return false };
        queue.busy = true;
        drop(queue);
        let (advanced, again) = self.run(step);
        let mut queue = self.queue();
        queue.busy = false;
        if let Some(step) = again {
            queue.steps.push_front(step);
        }
        advanced
    }

    /// Does a step; returned where it has to be done again.
    fn run(&self, step: Step) -> (bool, Option<Step>) {
        match step {
            // a broken device does nothing any more
            Step::Work(_) if broken(self.device).is_some() => (true, None),
            Step::Work(mut work) => match work() {
                Progress::Pending => (false, Some(Step::Work(work))),
                Progress::Done(result) => {
                    if let Err(fault) = result {
                        break_device(self.device, &fault);
                    }
                    (true, None)
                }
            },
            Step::Record(event, times) => {
                event.happens(times);
                (true, None)
            }
            Step::Wait(..) => (true, None),
        }
    }
}

/// The stream of a handle: null, 1 and 2 are the default one of the current device.
pub(super) fn find(handle: StreamHandle) -> Result<Arc<Stream>, Code> {
    let device = working()?;
    if handle.addr() > 2 {
        let stream = STREAMS.get(handle)?;
        return broken(stream.device).map_or(Ok(stream), Err);
    }
    let mut defaults = DEFAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    if defaults.len() <= device {
        defaults.resize(device + 1, None);
    }
    Ok(defaults[device].get_or_insert_with(|| Arc::new(Stream::new(device, false))).clone())
}

/// All streams.
fn all() -> Vec<Arc<Stream>> {
    let defaults = DEFAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut streams: Vec<_> = defaults.iter().flatten().cloned().collect();
    streams.extend(STREAMS.all());
    streams
}

/// Whether a device has nothing to do.
pub(super) fn idle(device: usize) -> bool {
    all().iter().filter(|stream| stream.device == device).all(|stream| stream.is_idle())
}

/// Puts a step at the end of a stream.
pub(super) fn enqueue(handle: StreamHandle, step: Step) -> Result<(), Code> {
    let stream = find(handle)?;
    join_default(handle, &stream);
    stream.queue().steps.push_back(step);
    if config::get().schedule == Schedule::Eager {
        while stream.advance() {}
    }
    Ok(())
}

/// The default stream and those that did not opt out of it wait for each other.
fn join_default(handle: StreamHandle, stream: &Arc<Stream>) {
    let others: Vec<Arc<Stream>> = if handle.addr() <= 2 {
        all().into_iter().filter(|other| other.device == stream.device && other.blocking).collect()
    } else if stream.blocking {
        find(std::ptr::null_mut()).into_iter().collect()
    } else {
        return;
    };
    for other in others {
        if !other.is_idle() {
            let event = Arc::new(Event::default());
            other.queue().steps.push_back(Step::Record(event.clone(), 1));
            stream.queue().steps.push_back(Step::Wait(event, 1));
        }
    }
}

/// Puts work at the end of a stream. It may be asked several times.
///
/// # Errors
/// The code of an unknown stream or a broken device.
pub(crate) fn submit(
    stream: StreamHandle,
    work: impl FnMut() -> Progress + Send + 'static,
) -> Result<(), Code> {
    enqueue(stream, Step::Work(Box::new(work)))
}

/// Puts work at the end of a stream that is done when it is asked.
///
/// # Errors
/// As [`submit`].
pub(crate) fn submit_once(
    stream: StreamHandle,
    work: impl FnOnce() -> Result<(), Fault> + Send + 'static,
) -> Result<(), Code> {
    let mut work = Some(work);
    submit(stream, move || Progress::Done(work.take().map_or(Ok(()), |work| work())))
}

/// Does the work of streams until something holds. A schedule that is lazy picks the stream of each step at random.
pub(crate) fn drive(done: impl Fn() -> bool) {
    while !done() {
        if !advance_one() {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

/// Does one step of any stream.
pub(super) fn advance_one() -> bool {
    let mut streams = all();
    if let Some(drawn) = draw() {
        let count = streams.len() as u64;
        for index in (1..count).rev() {
            let other = mix(drawn ^ index) % (index + 1);
            streams.swap(usize::try_from(index).unwrap_or(0), usize::try_from(other).unwrap_or(0));
        }
    }
    streams.iter().any(|stream| stream.advance())
}

/// Waits for all work of a stream.
pub(super) fn wait(handle: StreamHandle) -> Result<(), Code> {
    let stream = find(handle)?;
    drive(|| stream.is_idle());
    broken(stream.device).map_or(Ok(()), Err)
}

/// Waits for all work of all streams of the current device.
pub(super) fn wait_for_device() -> Result<usize, Code> {
    let device = working()?;
    drive(|| idle(device));
    working()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(stream: *mut StreamHandle, flags: c_uint) -> Code {
    code(working().and_then(|device| {
        if flags > 1 {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: as this library's callers promise
        unsafe { put(stream, STREAMS.insert(Stream::new(device, flags == 0))) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreateWithPriority(
    stream: *mut StreamHandle,
    flags: c_uint,
    _priority: c_int,
) -> Code {
    // SAFETY: as this library's callers promise
    unsafe { cuStreamCreate(stream, flags) }
}

/// The least and the greatest priority. A number less is more urgent; here none is.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> Code {
    code(working().and_then(|_| {
        // SAFETY: as this library's callers promise
        unsafe {
            put(least, 0)?;
            put(greatest, -5)
        }
    }))
}

/// A stream that goes finishes its work.
#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: StreamHandle) -> Code {
    code(STREAMS.get(stream).and_then(|found| {
        drive(|| found.is_idle());
        STREAMS.remove(stream).map(drop)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: StreamHandle) -> Code {
    code(wait(stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(stream: StreamHandle) -> Code {
    code(find(stream).and_then(|stream| {
        advance_one();
        if let Some(code) = broken(stream.device) {
            return Err(code);
        }
        if stream.is_idle() { Ok(()) } else { Err(Code::NOT_READY) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: StreamHandle, event: Handle, _flags: c_uint) -> Code {
    code(super::event::find(event).and_then(|event| {
        let times = event.recorded();
        enqueue(stream, Step::Wait(event, times))
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamIsCapturing(stream: StreamHandle, status: *mut c_int) -> Code {
    code(find(stream).and_then(|_| {
        // SAFETY: as this library's callers promise
        unsafe { put(status, 0) }
    }))
}

/// A function of the host, and what it is given.
struct Callback(unsafe extern "C" fn(*mut c_void), *mut c_void);

// SAFETY: the driver calls it on any thread, which who enqueues it knows
unsafe impl Send for Callback {}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchHostFunc(
    stream: StreamHandle,
    function: Option<unsafe extern "C" fn(*mut c_void)>,
    data: *mut c_void,
) -> Code {
    let Some(function) = function else { return Code::INVALID_VALUE };
    let callback = Callback(function, data);
    code(submit_once(stream, move || {
        let Callback(function, data) = { callback };
        // SAFETY: as this library's callers promise
        unsafe { function(data) };
        Ok(())
    }))
}
