//! The last lines of a training run: what it reached, where it lies, and what to do next.

use std::path::Path;

use phalanx_train::Summary;

use super::format;

/// The summary of the run in `dir`.
#[must_use]
pub fn summary(summary: &Summary, dir: &Path) -> String {
    let dir = dir.display();
    let mut rows = Vec::new();
    rows.extend(summary.test_accuracy.map(|share| ("test accuracy", format!("{:.2} %", share * 100.0))));
    rows.extend(summary.test_loss.map(|loss| ("test loss", format!("{loss:.4}"))));
    if let Some(federated) = &summary.federated {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        rows.extend(federated.backdoor_accuracy.map(|share| ("backdoor", percent(share))));
        let wronged = federated
            .wronged
            .map_or_else(String::new, |share| format!(", and {} of the honest", percent(share)));
        rows.extend(
            federated
                .caught
                .map(|share| ("left out", format!("{} of hostile updates{wronged}", percent(share)))),
        );
        if federated.unusable_rounds > 0 {
            rows.push(("unusable", format!("{} rounds left the model as it was", federated.unusable_rounds)));
        }
    }
    let speed = format!("{} samples/s", format::thousands(summary.samples_per_second));
    rows.push(("speed", format!("{speed} on {} ranks", summary.ranks)));
    rows.push(("time", format!("{:.1} s", summary.seconds)));
    let (steps, command) = match summary.federated {
        Some(_) => ("rounds", "federate"),
        None => ("steps", "train"),
    };
    rows.push((steps, format!("{} of {} samples in all", summary.steps, summary.samples)));
    rows.extend(summary.traffic.map(|traffic| {
        let share = traffic.sent_bytes as f64 / traffic.plain_bytes.max(1) as f64;
        ("gradients", format!("{:.1} % of their bytes sent", 100.0 * share))
    }));
    let left_out = (0..).zip(&summary.steps_left_out).filter(|(_, steps)| **steps > 0);
    let one = if summary.over.is_some() { "node" } else { "rank" };
    let left_out: Vec<String> =
        left_out.map(|(number, steps): (u64, _)| format!("{one} {number} of {steps} steps")).collect();
    if !left_out.is_empty() {
        rows.push(("left out", left_out.join(", ")));
    }
    let missing = &summary.parameters_without_gradient;
    if !missing.is_empty() {
        rows.push(("no gradient", missing.join(", ")));
    }
    rows.push(("run", dir.to_string()));

    let head = if summary.stopped { "stopped on request" } else { "done" };
    let mut text = format!("{}: {head}\n", summary.name);
    for (name, value) in rows {
        text += &format!("  {name:<14} {value}\n");
    }
    let next = match summary.stopped {
        true => vec![format!("phalanx {command} --resume {dir}")],
        false => vec![format!("phalanx eval {dir}"), format!("phalanx report {dir} -o report.html")],
    };
    for (idx, command) in next.iter().enumerate() {
        text += &format!("  {:<14} {command}\n", if idx == 0 { "next" } else { "" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::summary;
    use phalanx_train::Summary;
    use phalanx_train::events::GradientTraffic;
    use std::path::Path;

    #[test]
    fn a_finished_run_names_what_to_do_next() {
        let run = Summary {
            name: "digits".to_owned(),
            test_accuracy: Some(0.975),
            test_loss: Some(0.08),
            samples_per_second: 24_000.0,
            seconds: 1.25,
            steps: 410,
            samples: 26_240,
            ranks: 2,
            traffic: Some(GradientTraffic { sent_bytes: 26, plain_bytes: 104 }),
            ..Summary::default()
        };
        assert_eq!(
            summary(&run, Path::new("runs/digits")),
            "\
digits: done
  test accuracy  97.50 %
  test loss      0.0800
  speed          24.0 k samples/s on 2 ranks
  time           1.2 s
  steps          410 of 26240 samples in all
  gradients      25.0 % of their bytes sent
  run            runs/digits
  next           phalanx eval runs/digits
                 phalanx report runs/digits -o report.html
"
        );
    }

    #[test]
    fn a_stopped_run_says_how_to_go_on() {
        let run = Summary { name: "gpt".to_owned(), stopped: true, ..Summary::default() };
        let text = summary(&run, Path::new("runs/gpt"));
        assert!(text.starts_with("gpt: stopped on request\n"), "{text}");
        assert!(text.contains("phalanx train --resume runs/gpt"), "{text}");
        assert!(!text.contains("accuracy"), "{text}");
    }
}
