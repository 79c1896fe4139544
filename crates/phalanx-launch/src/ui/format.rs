//! Numbers as people read them.

use std::time::Duration;

use super::{Evaluated, LeftOut, Progress};

/// "loss 0.3121  accuracy 91.20 %  48.2 k samples/s  batch 64  left 12 s".
pub(super) fn progress(now: &Progress) -> String {
    let mut parts = vec![format!("loss {:.4}", now.loss)];
    parts.extend(now.accuracy.map(accuracy));
    parts.push(format!("{} samples/s", thousands(now.samples_per_second)));
    let target = now.target.map(|target| format!(" target {}", thousands(target))).unwrap_or_default();
    parts.push(format!("batch {}{target}", now.batch));
    let LeftOut { senders, numbers } = &now.left_out;
    if !numbers.is_empty() {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        parts.push(format!("without {} {}", senders.one(), numbers.join(", ")));
    }
    parts.extend(now.left().map(|left| format!("left {}", time(left))));
    parts.join("  ")
}

pub(super) fn evaluated(score: &Evaluated) -> String {
    let accuracy = score.accuracy.map(|share| format!("  {}", accuracy(share))).unwrap_or_default();
    format!("step {}: validation loss {:.4}{accuracy}", score.step, score.loss)
}

pub(super) fn accuracy(share: f64) -> String {
    format!("accuracy {:.2} %", share * 100.0)
}

/// Three digits and a power of a thousand.
pub(super) fn thousands(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.1} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

pub(super) fn time(left: Duration) -> String {
    match left.as_secs() {
        s if s >= 86_400 => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
        s if s >= 3600 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        s if s >= 60 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{progress, thousands, time};
    use crate::ui::{LeftOut, Progress};
    use std::time::Duration;

    #[test]
    fn a_line_of_progress() {
        let now = Progress {
            step: 10,
            samples: 640,
            total_samples: Some(1_000_640),
            total_steps: None,
            loss: 0.312_08,
            accuracy: Some(0.912),
            samples_per_second: 12_345.6,
            batch: 64,
            target: None,
            left_out: LeftOut::default(),
        };
        let left_out = LeftOut { numbers: vec![3, 4], ..LeftOut::default() };
        let grown = Progress { target: Some(1840.7), left_out: left_out.clone(), ..now.clone() };
        assert!(progress(&grown).contains("  without rank 3, 4  left"), "{}", progress(&grown));
        assert!(progress(&grown).contains("  batch 64 target 1.8 k  "), "{}", progress(&grown));
        assert_eq!(
            progress(&now),
            "loss 0.3121  accuracy 91.20 %  12.3 k samples/s  batch 64  left 1 min 21 s"
        );
    }

    #[test]
    fn small_and_large_numbers() {
        assert_eq!([0.0, 999.4, 1e3, 2.5e6, 3e9].map(thousands), ["0", "999", "1.0 k", "2.50 M", "3.0 G"]);
        assert_eq!(time(Duration::from_secs(3725)), "1 h 2 min");
        assert_eq!(time(Duration::from_secs(90_000)), "1 d 1 h");
    }
}
