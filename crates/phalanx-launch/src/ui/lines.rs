//! Plain lines, for files and pipes.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Evaluated, Progress, Ui, format};

/// Writes a line of progress now and then, and every other line at once.
#[derive(Debug)]
pub struct Lines<W> {
    inner: Mutex<Inner<W>>,
    pause: Duration,
}

#[derive(Debug)]
struct Inner<W> {
    out: W,
    last: Option<Instant>,
}

impl<W: Write + Send> Lines<W> {
    /// Lines to `out`, at least `pause` between two of progress.
    pub fn new(out: W, pause: Duration) -> Self {
        Self { inner: Mutex::new(Inner { out, last: None }), pause }
    }

    fn line(&self, text: &str) {
        if let Ok(mut inner) = self.inner.lock() {
            inner.write(text);
        }
    }

    fn now_and_then(&self, text: impl FnOnce() -> String) {
        if let Ok(mut inner) = self.inner.lock()
            && inner.last.is_none_or(|last| last.elapsed() >= self.pause)
        {
            inner.last = Some(Instant::now());
            inner.write(&text());
        }
    }
}

impl<W: Write> Inner<W> {
    /// In one piece: mpirun puts its tag before every piece that it reads. A reader that went away must not stop the run.
    fn write(&mut self, text: &str) {
        self.out.write_all(format!("{text}\n").as_bytes()).unwrap_or_default();
    }
}

impl<W: Write + Send> Ui for Lines<W> {
    fn progress(&self, now: &Progress) {
        self.now_and_then(|| {
            let share = now.fraction().map(|share| format!("{:>3.0} %  ", share * 100.0)).unwrap_or_default();
            format!("{share}step {}  {}", now.step, format::progress(now))
        });
    }

    fn evaluated(&self, score: &Evaluated) {
        self.line(&format::evaluated(score));
    }

    fn transferred(&self, file: &str, done: u64, total: Option<u64>) {
        self.now_and_then(|| {
            let total = total.map(|total| format!(" of {}B", format::thousands(super::float(total))));
            format!("{file}: {}B{}", format::thousands(super::float(done)), total.unwrap_or_default())
        });
    }

    fn note(&self, text: &str) {
        self.line(text);
    }

    fn finished(&self) {}
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use crate::ui::{Evaluated, Progress, Ui as _};
    use std::time::Duration;

    fn at(step: u64) -> Progress {
        Progress {
            step,
            samples: step * 10,
            total_samples: Some(100),
            total_steps: None,
            loss: 0.25,
            accuracy: None,
            samples_per_second: 10.0,
            batch: 10,
            target: None,
            left_out: crate::ui::LeftOut::default(),
        }
    }

    fn written(lines: Lines<Vec<u8>>) -> String {
        let inner = lines.inner.into_inner().expect("not poisoned");
        String::from_utf8(inner.out).expect("text")
    }

    #[test]
    fn progress_is_thinned_out_and_scores_are_not() {
        let lines = Lines::new(Vec::new(), Duration::from_secs(3600));
        lines.progress(&at(1));
        lines.progress(&at(2));
        lines.evaluated(&Evaluated { step: 2, loss: 0.5, accuracy: Some(0.75) });
        assert_eq!(
            written(lines),
            " 10 %  step 1  loss 0.2500  10 samples/s  batch 10  left 9 s\n\
             step 2: validation loss 0.5000  accuracy 75.00 %\n"
        );
    }

    #[test]
    fn a_line_is_written_in_one_piece() {
        struct Pieces(Vec<Vec<u8>>);
        impl std::io::Write for Pieces {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.push(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::new(Pieces(Vec::new()), Duration::ZERO);
        lines.note("three words here");
        let Pieces(pieces) = lines.inner.into_inner().expect("not poisoned").out;
        assert_eq!(pieces, [b"three words here\n"]);
    }

    #[test]
    fn bytes_are_told_with_their_total() {
        let lines = Lines::new(Vec::new(), Duration::ZERO);
        lines.transferred("train.gz", 1_500_000, Some(26_400_000));
        lines.transferred("train.gz", 500, None);
        assert_eq!(written(lines), "train.gz: 1.50 MB of 26.40 MB\ntrain.gz: 500B\n");
    }
}
