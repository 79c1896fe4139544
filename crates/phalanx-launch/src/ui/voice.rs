//! Which of the processes of a job speaks to the user: one at a time, and another when that one is gone.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Evaluated, Progress, Ui};

/// Whether this process speaks. Clones are the same voice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Voice(Arc<AtomicBool>);

impl Voice {
    pub(crate) fn new(speaks: bool) -> Self {
        Self(Arc::new(AtomicBool::new(speaks)))
    }

    /// From now on this process speaks, or does not.
    pub(crate) fn set(&self, speaks: bool) {
        self.0.store(speaks, Ordering::Relaxed);
    }

    fn speaks(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// `ui` while this process speaks.
    pub(crate) fn of_ui(&self, ui: &Arc<dyn Ui>) -> impl Ui + use<> {
        Spoken { voice: self.clone(), inner: Arc::clone(ui) }
    }

    /// `out` while this process speaks.
    pub(crate) fn of_output<'a>(
        &self,
        out: &'a mut (dyn Write + Send),
    ) -> Spoken<&'a mut (dyn Write + Send)> {
        Spoken { voice: self.clone(), inner: out }
    }
}

/// What is passed on while the process speaks.
pub(crate) struct Spoken<T> {
    voice: Voice,
    inner: T,
}

impl Ui for Spoken<Arc<dyn Ui>> {
    fn progress(&self, now: &Progress) {
        if self.voice.speaks() {
            self.inner.progress(now);
        }
    }

    fn evaluated(&self, score: &Evaluated) {
        if self.voice.speaks() {
            self.inner.evaluated(score);
        }
    }

    fn transferred(&self, file: &str, done: u64, total: Option<u64>) {
        if self.voice.speaks() {
            self.inner.transferred(file, done, total);
        }
    }

    fn note(&self, text: &str) {
        if self.voice.speaks() {
            self.inner.note(text);
        }
    }

    fn finished(&self) {
        if self.voice.speaks() {
            self.inner.finished();
        }
    }
}

impl Write for Spoken<&mut (dyn Write + Send)> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.voice.speaks() { self.inner.write(bytes) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::Voice;
    use std::io::Write as _;

    #[test]
    fn what_is_said_without_the_voice_is_lost() {
        let voice = Voice::new(false);
        let mut text = Vec::new();
        let mut out = voice.of_output(&mut text);
        out.write_all(b"unheard").expect("memory");
        voice.set(true);
        out.write_all(b"heard").expect("memory");
        assert_eq!(text, b"heard");
    }
}
