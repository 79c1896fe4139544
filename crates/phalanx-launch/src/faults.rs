//! Faults that are injected into a run, to see what becomes of it.
//!
//! They come from the run file's `[faults]`, as sentences: `kill rank 1 at step 3 in backward`.

mod disk;
mod injection;
mod injector;

pub use injection::{Injection, InjectionError, Injections, Kind};
pub use injector::Injector;
