//! What a kernel or a call did wrong, and where tests find it.

use crate::config;
use crate::driver::Code;
use std::cell::RefCell;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// A place in a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kernel: String,
    pub(crate) block: Option<[u32; 3]>,
    pub(crate) thread: Option<[u32; 3]>,
    /// File and line of the source, or the line of the PTX where it has no line information.
    pub(crate) source: Option<(String, u32)>,
}

/// A fault of a kernel, or of the work of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) what: String,
    pub(crate) place: Place,
}

impl Fault {
    /// One that has no place yet.
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), place: Place::default() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { kernel, block, thread, source } = &self.place;
        if !kernel.is_empty() {
            write!(f, "kernel {kernel}, ")?;
        }
        if let Some([x, y, z]) = block {
            write!(f, "block ({x},{y},{z}), ")?;
        }
        if let Some([x, y, z]) = thread {
            write!(f, "thread ({x},{y},{z}), ")?;
        }
        if let Some((file, line)) = source {
            write!(f, "{file}:{line}: ")?;
        }
        write!(f, "{}", self.what)
    }
}

/// The last fault of the process.
static LAST: Mutex<Option<String>> = Mutex::new(None);

thread_local! {
    /// The last fault that this thread came upon.
    static OWN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The text of the last fault that this thread came upon, or else of any.
pub(crate) fn last() -> Option<String> {
    let own = OWN.with_borrow(Clone::clone);
    own.or_else(|| LAST.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Tells of a fault, on standard error, in the report file, and to [`last`].
pub(crate) fn report(fault: &Fault) {
    let text = format!("softcuda: {}: {fault}", fault.code.name());
    tell(&text);
    OWN.set(Some(text.clone()));
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
}

/// Writes a line where it can be written: a test must not fail for a full disk.
pub(crate) fn tell(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
    if let Some(path) = config::get().report
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
    {
        writeln!(file, "{text}").unwrap_or_default();
    }
}

/// Reports a refused call and gives its code.
pub(crate) fn refuse(code: Code, what: impl Into<String>) -> Code {
    report(&Fault::new(code, what));
    code
}
