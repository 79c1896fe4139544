//! Calls between `ncclGroupStart` and `ncclGroupEnd`.

use super::comm::Comm;
use super::status::{Status, refuse, remember};
use super::work::{Collectives, Part};
use crate::driver::stream;
use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;

/// What this thread has called and not given to streams yet.
#[derive(Default)]
struct Open {
    depth: u32,
    calls: Vec<(Arc<Comm>, usize, Part)>,
    /// Communicators whose ranks are waited for at the end.
    joining: Vec<Arc<Comm>>,
}

thread_local! {
    static OPEN: RefCell<Open> = RefCell::default();
}

/// Gives a call to its stream, or keeps it for the end of the group.
pub(super) fn call(comm: Arc<Comm>, on: *mut c_void, part: Part) -> Status {
    let accepted = comm.accepted();
    let kept = OPEN.with(|open| {
        let mut open = open.borrow_mut();
        if open.depth == 0 {
            return Some((comm, part));
        }
        open.calls.push((comm, on.addr(), part));
        None
    });
    match kept {
        None => accepted,
        Some((comm, part)) => match enqueue(comm, on.addr(), vec![part]) {
            Status::SUCCESS => accepted,
            refused => refused,
        },
    }
}

/// Waits for the ranks of a communicator that blocks, here or at the end of the group.
pub(super) fn join(comm: Arc<Comm>) -> Status {
    if !comm.blocking {
        return Status::IN_PROGRESS;
    }
    let kept = OPEN.with(|open| {
        let mut open = open.borrow_mut();
        if open.depth == 0 {
            return Some(comm);
        }
        open.joining.push(comm);
        None
    });
    kept.map_or(Status::SUCCESS, |comm| wait(&comm))
}

fn wait(comm: &Comm) -> Status {
    match comm.wait_ready() {
        Ok(()) => Status::SUCCESS,
        Err((status, text)) => {
            remember(&text);
            status
        }
    }
}

fn enqueue(comm: Arc<Comm>, on: usize, parts: Vec<Part>) -> Status {
    let mut work = Collectives::new(comm, parts);
    match stream::submit(std::ptr::without_provenance_mut(on), move || work.run()) {
        Ok(()) => Status::SUCCESS,
        Err(code) => refuse(Status(1), &format!("{} from the stream", code.name())),
    }
}

/// Begins a group; groups may be nested.
#[unsafe(no_mangle)]
extern "C" fn ncclGroupStart() -> Status {
    OPEN.with(|open| open.borrow_mut().depth += 1);
    Status::SUCCESS
}

/// Ends a group: the calls of each communicator go to each stream as one.
#[unsafe(no_mangle)]
extern "C" fn ncclGroupEnd() -> Status {
    let ended = OPEN.with(|open| {
        let mut open = open.borrow_mut();
        match open.depth {
            0 => None,
            1 => Some(std::mem::take(&mut *open)),
            _ => {
                open.depth -= 1;
                Some(Open::default())
            }
        }
    });
    let Some(Open { calls, joining, .. }) = ended else {
        return refuse(Status::INVALID_USAGE, "ncclGroupEnd without ncclGroupStart");
    };
    for comm in joining {
        match wait(&comm) {
            Status::SUCCESS => {}
            failed => return failed,
        }
    }
    let mut groups: Vec<(Arc<Comm>, usize, Vec<Part>)> = Vec::new();
    for (comm, on, part) in calls {
        let of_both = |(other, stream, _): &&mut (Arc<Comm>, usize, Vec<Part>)| {
            Arc::ptr_eq(other, &comm) && *stream == on
        };
        match groups.iter_mut().find(of_both) {
            Some((.., parts)) => parts.push(part),
            None => groups.push((comm, on, vec![part])),
        }
    }
    let mut status = Status::SUCCESS;
    for (comm, on, parts) in groups {
        let blocking = comm.blocking;
        match enqueue(comm, on, parts) {
            Status::SUCCESS if blocking => {}
            Status::SUCCESS => status = Status::IN_PROGRESS,
            refused => return refused,
        }
    }
    status
}
