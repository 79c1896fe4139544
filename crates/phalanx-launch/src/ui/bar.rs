//! A progress bar, for terminals.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Evaluated, Progress, Ui, format};

/// A bar on standard error; lines go above it.
#[derive(Debug)]
pub struct Bar {
    screen: MultiProgress,
    bar: ProgressBar,
}

/// The bar's own unit: a run's samples may be unknown, its share is what the bar shows.
const PARTS: u64 = 10_000;

impl Bar {
    /// A bar on `screen`, through which everything else must go that is written to the terminal.
    #[must_use]
    pub fn new(screen: MultiProgress) -> Self {
        let bar = screen.add(ProgressBar::new(PARTS));
        bar.set_style(style("{bar:30} {percent:>3} %  {msg}"));
        Self { screen, bar }
    }

    fn show(&self, fraction: Option<f64>) {
        match fraction {
            Some(share) => self.bar.set_position(parts(share)),
            None => self.bar.set_style(style("{spinner} {msg}")),
        }
    }
}

impl Ui for Bar {
    fn progress(&self, now: &Progress) {
        self.show(now.fraction());
        self.bar.set_message(format::progress(now));
    }

    fn evaluated(&self, score: &Evaluated) {
        self.note(&format::evaluated(score));
    }

    fn transferred(&self, file: &str, done: u64, total: Option<u64>) {
        let total = total.filter(|total| *total > 0);
        self.show(total.map(|total| super::float(done) / super::float(total)));
        self.bar.set_message(format!("{file}  {}B", format::thousands(super::float(done))));
    }

    fn note(&self, text: &str) {
        // a terminal that went away takes no lines, and that must not stop the run
        self.screen.println(text).unwrap_or_default();
    }

    fn finished(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of PARTS, clamped to 0 to 1"
)]
fn parts(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * super::float(PARTS)) as u64
}

#[cfg(test)]
mod tests {
    use super::{Bar, PARTS, parts};
    use crate::ui::{Progress, Ui as _};
    use indicatif::{MultiProgress, ProgressDrawTarget};

    #[test]
    fn the_bar_stands_at_the_share_of_samples() {
        let bar = Bar::new(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()));
        let now = Progress {
            step: 1,
            samples: 25,
            total_samples: Some(100),
            total_steps: None,
            loss: 1.0,
            accuracy: None,
            samples_per_second: 25.0,
            batch: 25,
            target: None,
            left_out: crate::ui::LeftOut::default(),
        };
        bar.progress(&now);
        assert_eq!(bar.bar.position(), PARTS / 4);
        assert_eq!(bar.bar.message(), "loss 1.0000  25 samples/s  batch 25  left 3 s");
        bar.finished();
        assert!(bar.bar.is_finished());
    }

    #[test]
    fn shares_never_leave_the_bar() {
        assert_eq!([-1.0, 0.0, 1.0, 7.0, f64::NAN].map(parts), [0, 0, PARTS, PARTS, 0]);
    }
}
