//! `[faults]`: what is made to go wrong, to see what becomes of the run.

use crate::faults::Injections;
use crate::runfile::Range;
use crate::runfile::key::keys;

keys! {
    /// Faults for tests.
    pub struct Faults {
        /// Faults and when they happen, each once: "kill rank 1 at step 3 in backward", "stop rank 0
        /// at step 2", "delay rank 1 at step 3 for 2 s", "drop rank 1 at step 3 for 2 s", "corrupt
        /// rank 0 at step 4", "full-disk rank 0 at step 10". Ranks that are threads are killed and
        /// stopped together.
        inject: Injections = Injections::default(), "", Range::Any, May;
    }
}
