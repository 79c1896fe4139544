//! `phalanx report`: the curves and figures of runs on one page that needs no network.
//!
//! The page is static HTML for the tables, and a script of our own that draws the curves as SVG from data
//! in the page. Curves of many steps are thinned out to stretches that keep their mean, least and greatest
//! value: no spike is lost.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use self::run::Run;

mod chart;
mod html;
mod page;
mod run;
mod series;
mod tables;

pub(crate) use html::escape;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Length of the page, in bytes.
    pub bytes: usize,
    /// What the page had to leave out, in words.
    pub notes: Vec<String>,
}

/// Writes a page about `runs`, which are run directories, to `out`.
///
/// A run that goes on, failed or was killed is shown as far as it got.
///
/// # Errors
/// When a directory holds no run, or a file of one cannot be read, or `out` cannot be written.
pub fn write(runs: &[PathBuf], out: &Path) -> anyhow::Result<Written> {
    anyhow::ensure!(!runs.is_empty(), "a report needs at least one run directory");
    let labels = labels(runs);
    let runs = runs
        .iter()
        .zip(labels)
        .map(|(dir, label)| Run::read(dir, label).with_context(|| format!("run {}", dir.display())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let page = page::render(&runs)?;
    fs::write(out, &page).with_context(|| format!("cannot write {}", out.display()))?;
    let notes = runs.iter().flat_map(|run| run.notes.iter().map(|note| format!("{}: {note}", run.label)));
    Ok(Written { bytes: page.len(), notes: notes.collect() })
}

/// The shortest ends of the paths that tell the runs apart.
fn labels(runs: &[PathBuf]) -> Vec<String> {
    let end = |dir: &PathBuf, parts: usize| {
        let parts: Vec<_> = dir.components().rev().take(parts).collect();
        parts.into_iter().rev().collect::<PathBuf>().display().to_string()
    };
    let longest = runs.iter().map(|dir| dir.components().count()).max().unwrap_or(1);
    let tells_apart = |&parts: &usize| {
        let labels: BTreeSet<_> = runs.iter().map(|dir| end(dir, parts)).collect();
        labels.len() == runs.len()
    };
    let parts = (1..=longest).find(tells_apart).unwrap_or(longest);
    runs.iter().map(|dir| end(dir, parts)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use phalanx_train::events::{EvalDone, Event, EventWriter, RunFinished, Split, StepDone};
    use phalanx_train::rundir::RunPaths;
    use phalanx_train::{Failure, Summary};
    use serde_json::Value;

    use super::*;

    /// A run of `steps` steps in `base/name`.
    fn make_run(base: &Path, name: &str, steps: u64, lr: f64) -> RunPaths {
        let paths = RunPaths::new(base.join(name));
        fs::create_dir(paths.root()).unwrap();
        fs::write(paths.run_file(), format!("name = \"x\"\nseed = 1\n[optimizer]\nlr = {lr}\n")).unwrap();
        let mut events = EventWriter::create(&paths.events(), Duration::from_secs(60)).unwrap();
        for step in 1..=steps {
            let loss = if step == 7 { 1234.5 } else { 1.0 / step as f64 };
            let done = StepDone { step, samples: 64 * step, loss, lr, batch: 64, ..StepDone::default() };
            events.write(&Event::Step(done)).unwrap();
        }
        let eval = EvalDone { step: steps, split: Split::Test, loss: 0.5, accuracy: Some(0.875), samples: 0 };
        events.write(&Event::Eval(eval)).unwrap();
        events.write(&Event::Finished(RunFinished { step: steps, ..RunFinished::default() })).unwrap();
        let summary = Summary { test_accuracy: Some(0.875), steps, ..Summary::default() };
        summary.write(&paths.summary()).unwrap();
        paths
    }

    fn report(runs: &[&RunPaths]) -> anyhow::Result<(String, Written)> {
        let out = tempfile::NamedTempFile::new()?;
        let runs: Vec<_> = runs.iter().map(|run| run.root().to_path_buf()).collect();
        let written = write(&runs, out.path())?;
        Ok((fs::read_to_string(out.path())?, written))
    }

    /// The data that the page's script draws.
    fn data(page: &str) -> Value {
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    fn labels_of(runs: &[&str]) -> Vec<String> {
        labels(&runs.iter().map(PathBuf::from).collect::<Vec<_>>())
    }

    #[test]
    fn labels_are_as_short_as_they_can_be() {
        assert_eq!(labels_of(&["runs/a", "runs/b"]), ["a", "b"]);
        assert_eq!(labels_of(&["x/digits", "y/digits"]), ["x/digits", "y/digits"]);
        assert_eq!(labels_of(&["runs/a", "runs/a"]), ["runs/a", "runs/a"]);
    }

    #[test]
    fn a_page_holds_curves_figures_and_differing_settings() {
        let base = tempfile::tempdir().unwrap();
        let (one, two) = (make_run(base.path(), "one", 20, 0.1), make_run(base.path(), "two", 5000, 0.2));
        let (page, written) = report(&[&one, &two]).unwrap();
        assert_eq!((written.bytes, written.notes), (page.len(), vec![]));
        assert!(page.contains("87.50 %"));
        assert!(page.contains("<code>optimizer.lr</code>") && page.contains("<code>0.2</code>"));
        assert!(!page.contains("<code>seed</code>"), "only what differs");
        let data = data(&page);
        assert_eq!(data["runs"], serde_json::json!(["one", "two"]));
        let loss = &data["charts"][0];
        assert_eq!(loss["title"], "Training loss");
        assert_eq!(loss["curves"][0]["series"]["step"].as_array().unwrap().len(), 20);
        let thinned = &loss["curves"][1]["series"];
        assert!(thinned["step"].as_array().unwrap().len() < 1000);
        assert_eq!(thinned["max"][0], 1234.5, "the spike at step 7 stays");
        let batch =
            &data["charts"].as_array().unwrap().iter().find(|chart| chart["curves"][0]["style"] == "stairs");
        assert_eq!(batch.unwrap()["curves"][1]["series"]["step"], serde_json::json!([1, 5000]));
    }

    #[test]
    fn a_page_fetches_nothing() {
        let base = tempfile::tempdir().unwrap();
        let (page, _) = report(&[&make_run(base.path(), "one", 3, 0.1)]).unwrap();
        // the name of SVG's namespace is an address that nobody visits
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch(", "XMLHttpRequest"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn a_failed_run_says_why_and_markup_in_it_is_text() {
        let base = tempfile::tempdir().unwrap();
        let paths = RunPaths::new(base.path().join("<script>alert(1)"));
        fs::create_dir(paths.root()).unwrap();
        let failure = Failure {
            rank: Some(1),
            host: "node-07".to_owned(),
            step: 412,
            phase: "backward".to_owned(),
            causes: vec!["loss is <b>NaN</b>".to_owned()],
            exit_code: 1,
            ..Failure::default()
        };
        failure.write(&paths.failure()).unwrap();
        let (page, written) = report(&[&paths]).unwrap();
        assert!(page.contains("rank 1 on node-07, step 412, backward; exit code 1"));
        assert!(page.contains("loss is &lt;b&gt;NaN&lt;/b&gt;"));
        assert!(!page.contains("<script>alert"));
        assert_eq!(data(&page)["runs"][0], "<script>alert(1)");
        assert_eq!(written.notes.len(), 2, "no events and no run file: {:?}", written.notes);
    }

    #[test]
    fn what_is_no_run_is_refused_by_name() {
        let base = tempfile::tempdir().unwrap();
        let error = report(&[&RunPaths::new(base.path())]).unwrap_err();
        assert!(format!("{error:#}").contains(&format!("{} holds no run", base.path().display())));
        report(&[]).unwrap_err();
    }
}
