//! The parts of the page that need no script: failures, the figures of the runs, and where their settings differ.
use std::collections::BTreeSet;
use std::fmt::Write as _;

use phalanx_train::FederatedFigures;

use super::html::escape;
use super::run::{Run, Status};

/// A figure of a run, as a column of the table of figures.
struct Column {
    title: &'static str,
    value: fn(&Run) -> Option<String>,
}

const COLUMNS: [Column; 17] = [
    Column { title: "Test accuracy", value: |run| run.summary.as_ref()?.test_accuracy.map(percent) },
    Column { title: "Test loss", value: |run| run.summary.as_ref()?.test_loss.map(digits) },
    Column { title: "Backdoor accuracy", value: |run| federated(run)?.backdoor_accuracy.map(percent) },
    Column { title: "Hostile updates left out", value: |run| federated(run)?.caught.map(percent) },
    Column { title: "Honest updates left out", value: |run| federated(run)?.wronged.map(percent) },
    Column { title: "Best validation loss, at step", value: best_validation },
    Column { title: "Last train loss", value: |run| run.last_step().map(|step| digits(step.loss)) },
    Column { title: "Samples/s", value: |run| Some(grouped(run.summary.as_ref()?.samples_per_second)) },
    Column { title: "Time", value: seconds },
    Column { title: "Steps", value: |run| run.last_step().map(|step| grouped(step.step as f64)) },
    Column { title: "Samples", value: |run| run.last_step().map(|step| grouped(step.samples as f64)) },
    Column { title: "Ranks", value: |run| Some(run.summary.as_ref()?.ranks.to_string()) },
    Column { title: "Final batch", value: |run| run.last_step().map(|step| grouped(step.batch as f64)) },
    Column {
        title: "Exposed communication",
        value: |run| Some(percent(run.summary.as_ref()?.exposed_comm_share)),
    },
    Column { title: "Peak memory", value: |run| run.summary.as_ref()?.peak_rss_bytes.map(mebibytes) },
    Column { title: "Parameters", value: |run| Some(grouped(run.summary.as_ref()?.parameters as f64)) },
    Column {
        title: "Model SHA-256",
        value: |run| Some(run.summary.as_ref()?.model_sha256.chars().take(12).collect()),
    },
];

/// A card a failed run.
pub(super) fn failures(runs: &[Run]) -> String {
    let mut out = String::new();
    for (index, run) in runs.iter().enumerate() {
        let Some(failure) = &run.failure else { continue };
        let place = match (failure.rank, failure.step) {
            (Some(rank), step) => format!("rank {rank} on {}, step {step}, {}", failure.host, failure.phase),
            (None, step) => format!("on {}, step {step}, {}", failure.host, failure.phase),
        };
        write_all(
            &mut out,
            format_args!(
                "<section class=\"failure\" role=\"alert\"><h2>{} failed</h2><p>{}{}; exit code {}</p><ol>",
                name(index, run),
                escape(&place),
                failure.operation.as_ref().map(|name| format!(", {}", escape(name))).unwrap_or_default(),
                failure.exit_code,
            ),
        );
        for cause in &failure.causes {
            write_all(&mut out, format_args!("<li><code>{}</code></li>", escape(cause)));
        }
        out.push_str("</ol></section>\n");
    }
    out
}

/// The table of figures, a row a run; a figure that no run has is left out.
pub(super) fn figures(runs: &[Run]) -> String {
    let columns: Vec<_> =
        COLUMNS.iter().filter(|column| runs.iter().any(|run| (column.value)(run).is_some())).collect();
    let mut out = String::from("<tr><th scope=\"col\">Run</th><th scope=\"col\">Status</th>");
    for column in &columns {
        write_all(&mut out, format_args!("<th scope=\"col\" class=\"number\">{}</th>", column.title));
    }
    out.push_str("</tr>\n");
    for (index, run) in runs.iter().enumerate() {
        let (class, status) = status(run.status);
        write_all(
            &mut out,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td><span class=\"status {class}\">{status}</span></td>",
                name(index, run)
            ),
        );
        for column in &columns {
            let value = (column.value)(run).unwrap_or_else(|| "–".to_owned());
            write_all(&mut out, format_args!("<td class=\"number\">{}</td>", escape(&value)));
        }
        out.push_str("</tr>\n");
    }
    table("Figures", &out)
}

/// The settings in which the runs differ; all of them if there is one run.
pub(super) fn settings(runs: &[Run]) -> String {
    let keys: BTreeSet<_> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let differs = |key: &&String| runs.iter().any(|run| run.settings.get(*key) != runs[0].settings.get(*key));
    let keys: Vec<_> =
        keys.into_iter().filter(|key| runs.len() == 1 || (differs(key) && *key != "name")).collect();
    let title = if runs.len() == 1 { "Settings" } else { "Settings that differ" };
    if keys.is_empty() {
        return format!("<section><h2>{title}</h2><p class=\"quiet\">None.</p></section>\n");
    }
    let mut out = String::from("<tr><th scope=\"col\">Key</th>");
    for (index, run) in runs.iter().enumerate() {
        write_all(&mut out, format_args!("<th scope=\"col\">{}</th>", name(index, run)));
    }
    out.push_str("</tr>\n");
    for key in keys {
        write_all(&mut out, format_args!("<tr><th scope=\"row\"><code>{}</code></th>", escape(key)));
        for run in runs {
            let value = run.settings.get(key).map_or("–".to_owned(), |value| escape(value));
            write_all(&mut out, format_args!("<td><code>{value}</code></td>"));
        }
        out.push_str("</tr>\n");
    }
    table(title, &out)
}

/// What the page leaves out.
pub(super) fn notes(runs: &[Run]) -> String {
    let mut out = String::new();
    for (index, run) in runs.iter().enumerate() {
        for note in &run.notes {
            write_all(
                &mut out,
                format_args!("<p class=\"quiet\">{}: {}.</p>\n", name(index, run), escape(note)),
            );
        }
    }
    out
}

fn table(title: &str, rows: &str) -> String {
    format!(
        "<section><h2>{title}</h2><div class=\"scroll\" tabindex=\"0\"><table>\n{rows}</table></div></section>\n"
    )
}

/// The run's name behind its colour.
fn name(index: usize, run: &Run) -> String {
    format!("<span class=\"swatch\" data-run=\"{index}\"></span>{}", escape(&run.label))
}

fn status(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Done => ("done", "done"),
        Status::Stopped => ("stopped", "stopped on request"),
        Status::Failed => ("failed", "failed"),
        Status::Unfinished => ("unfinished", "not finished"),
    }
}

fn federated(run: &Run) -> Option<&FederatedFigures> {
    run.summary.as_ref()?.federated.as_ref()
}

fn best_validation(run: &Run) -> Option<String> {
    let summary = run.summary.as_ref()?;
    let loss = digits(summary.best_validation_loss?);
    Some(match summary.best_validation_step {
        Some(step) => format!("{loss}, {}", grouped(step as f64)),
        None => loss,
    })
}

fn seconds(run: &Run) -> Option<String> {
    let seconds = match &run.summary {
        Some(summary) => summary.seconds,
        None => run.last_step()?.seconds,
    };
    Some(match seconds {
        short if short < 100.0 => format!("{short:.1} s"),
        long if long < 6000.0 => format!("{:.0} min {:02.0} s", (long / 60.0).floor(), long % 60.0),
        long => format!("{:.0} h {:02.0} min", (long / 3600.0).floor(), long % 3600.0 / 60.0),
    })
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 1e-3 => format!("{value:.2e}"),
        _ => format!("{value:.4}"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", grouped(bytes as f64 / f64::from(1 << 20)))
}

/// A whole number in groups of three.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits;
    }
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn write_all(out: &mut String, text: std::fmt::Arguments<'_>) {
    // writing to a string cannot fail
    out.write_fmt(text).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(1_234_567.4), "1\u{202f}234\u{202f}567");
        assert_eq!((grouped(999.0), grouped(f64::NAN)), ("999".to_owned(), "NaN".to_owned()));
        assert_eq!((digits(0.12345), digits(0.000_012)), ("0.1235".to_owned(), "1.20e-5".to_owned()));
        assert_eq!(mebibytes(3 << 20), "3 MiB");
        assert_eq!(percent(0.98765), "98.77 %");
    }
}
