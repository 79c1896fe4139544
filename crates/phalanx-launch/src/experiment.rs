//! A table of runs: the same task under several run files and seeds, and the page that compares them.
//!
//! A folder of run files is an experiment, a file a method. Each is run with each seed; runs that are done are kept, runs that were cut
//! off go on. The page holds what came out: a table, and pictures beside it.

mod figure;
mod outcome;
mod prediction;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub use self::outcome::{Goal, Outcome};
pub use self::prediction::Network;

/// The runs of one method, one a seed.
#[derive(Debug)]
pub struct Method {
    /// Its name: that of the run file.
    pub name: String,
    /// What its runs gave.
    pub outcomes: Vec<Outcome>,
}

/// The run files of an experiment, in order of their names.
///
/// # Errors
/// When the folder cannot be read or holds none.
pub fn run_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        if path.extension().is_some_and(|end| end == "toml") {
            files.push(path);
        }
    }
    anyhow::ensure!(!files.is_empty(), "{} holds no run file", dir.display());
    files.sort();
    Ok(files)
}

/// Writes the page about an experiment to `page`, and its pictures beside it.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    title: &str,
    methods: &[Method],
    goal: Goal,
    network: Network,
    page: &Path,
) -> anyhow::Result<()> {
    let stem =
        page.file_stem().map_or_else(|| "experiment".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let mut pictures = Vec::new();
    for figure in figure::figures(methods, goal) {
        let name = format!("{stem}-{}.svg", figure.name);
        let file = page.with_file_name(&name);
        fs::write(&file, figure.svg()).with_context(|| format!("cannot write {}", file.display()))?;
        pictures.push((figure.title, name));
    }
    let text = table::markdown(title, methods, goal, network, &pictures);
    fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_train::Summary;
    use phalanx_train::events::{EvalDone, Event, Split, StepDone};

    fn outcome(batch: u64, accuracy: f64) -> Outcome {
        let mut events = Vec::new();
        for step in 1..=10 {
            let done = StepDone {
                step,
                samples: batch * step,
                batch,
                samples_per_second: 100.0,
                ..StepDone::default()
            };
            events.push(Event::Step(done));
            let accuracy = Some(accuracy * step as f64 / 10.0);
            let (samples, split) = (batch * step, Split::Validation);
            events.push(Event::Eval(EvalDone { step, samples, split, loss: 1.0 / step as f64, accuracy }));
        }
        let summary = Summary {
            test_accuracy: Some(accuracy),
            test_loss: Some(0.5),
            steps: 10,
            samples: 10 * batch,
            ranks: 2,
            parameters: 1000,
            final_batch: batch,
            ..Summary::default()
        };
        Outcome::new(summary, &events)
    }

    #[test]
    fn a_page_holds_a_row_a_method_and_its_pictures() {
        let dir = tempfile::tempdir().expect("a directory");
        let page = dir.path().join("adadagrad.md");
        let methods = [
            Method { name: "constant-16".to_owned(), outcomes: vec![outcome(16, 0.9), outcome(16, 0.92)] },
            Method { name: "ramp".to_owned(), outcomes: vec![outcome(32, 0.8)] },
        ];
        write("A test", &methods, Goal::Accuracy(0.85), Network::default(), &page).expect("written");
        let text = fs::read_to_string(&page).expect("a page");
        // accuracies 90 and 92, the goal after the whole of 1.6 s in both
        assert!(text.contains("| constant-16 | 2 | 91.00 ± 1.41 |"), "{text}");
        assert!(text.contains("| ramp | 1 | 80.00 |"), "{text}");
        assert!(text.contains("not reached"), "{text}");
        for name in ["adadagrad-batch.svg", "adadagrad-score.svg", "adadagrad-time.svg"] {
            assert!(text.contains(&format!("({name})")), "{text}");
            let svg = fs::read_to_string(dir.path().join(name)).expect("a picture");
            assert!(svg.starts_with("<svg") && svg.contains("constant-16") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn a_folder_without_run_files_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(run_files(dir.path()).expect_err("empty").to_string().contains("holds no run file"));
        fs::write(dir.path().join("b.toml"), "").expect("a file");
        fs::write(dir.path().join("a.toml"), "").expect("a file");
        fs::write(dir.path().join("notes.md"), "").expect("a file");
        let files = run_files(dir.path()).expect("two");
        assert!(files[0].ends_with("a.toml") && files.len() == 2);
    }
}
