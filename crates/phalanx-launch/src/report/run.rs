//! One run as its directory tells it.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use phalanx_train::events::{self, Event};
use phalanx_train::rundir::RunPaths;
use phalanx_train::{Failure, Summary};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It came to its planned end.
    Done,
    /// It stopped on request.
    Stopped,
    /// It failed.
    Failed,
    /// It goes on, or was killed.
    Unfinished,
}

/// A run.
#[derive(Debug)]
pub(super) struct Run {
    /// What the page calls it.
    pub(super) label: String,
    pub(super) status: Status,
    pub(super) events: Vec<Event>,
    pub(super) summary: Option<Summary>,
    pub(super) failure: Option<Failure>,
    /// Keys of the run file, with dots, and their values.
    pub(super) settings: BTreeMap<String, String>,
    /// What the page leaves out.
    pub(super) notes: Vec<String>,
}

impl Run {
    /// Reads the run in `dir`.
    pub(super) fn read(dir: &Path, label: String) -> anyhow::Result<Self> {
        let paths = RunPaths::new(dir);
        anyhow::ensure!(paths.holds_run(), "{} holds no run", dir.display());
        let mut notes = Vec::new();
        let events = read_events(&paths, &mut notes)?;
        let failure = paths.failure().exists().then(|| Failure::read(&paths.failure())).transpose()?;
        let status = status(&events, failure.is_some());
        Ok(Self {
            label,
            status,
            summary: paths.summary().exists().then(|| Summary::read(&paths.summary())).transpose()?,
            failure: failure.filter(|_| status == Status::Failed),
            settings: read_settings(&paths, &mut notes)?,
            events,
            notes,
        })
    }

    /// The last step event.
    pub(super) fn last_step(&self) -> Option<&events::StepDone> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Step(step) => Some(step),
            _ => None,
        })
    }
}

fn read_events(paths: &RunPaths, notes: &mut Vec<String>) -> anyhow::Result<Vec<Event>> {
    if !paths.events().exists() {
        notes.push("there are no curves: events.jsonl is missing".to_owned());
        return Ok(Vec::new());
    }
    let log = events::read(&paths.events())?;
    if let Some(first) = log.bad_lines.first() {
        let count = log.bad_lines.len();
        notes.push(format!("{count} lines of events.jsonl are no events, the first is line {first}"));
    }
    Ok(log.events)
}

/// The last word on how the run ended is the last event that speaks of it.
fn status(events: &[Event], has_failure_file: bool) -> Status {
    let last = events.iter().rev().find_map(|event| match event {
        Event::Finished(end) if end.stopped => Some(Status::Stopped),
        Event::Finished(_) => Some(Status::Done),
        Event::Failure(_) => Some(Status::Failed),
        _ => None,
    });
    match last {
        None if has_failure_file => Status::Failed,
        last => last.unwrap_or(Status::Unfinished),
    }
}

fn read_settings(paths: &RunPaths, notes: &mut Vec<String>) -> anyhow::Result<BTreeMap<String, String>> {
    let file = paths.run_file();
    if !file.exists() {
        notes.push("its settings are unknown: run.toml is missing".to_owned());
        return Ok(BTreeMap::new());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("cannot parse {}", file.display()))?;
    let mut settings = BTreeMap::new();
    flatten("", &table, &mut settings);
    Ok(settings)
}

fn flatten(prefix: &str, table: &toml::Table, settings: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&path, inner, settings),
            toml::Value::String(text) => {
                settings.insert(path, text.clone());
            }
            other => {
                settings.insert(path, other.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use phalanx_train::events::{RunFailed, RunFinished, StepDone};

    use super::*;

    #[test]
    fn the_last_word_decides_the_status() {
        let step = Event::Step(StepDone::default());
        let failed = Event::Failure(RunFailed::default());
        let done = Event::Finished(RunFinished::default());
        let stopped = Event::Finished(RunFinished { stopped: true, ..RunFinished::default() });
        assert_eq!(status(&[step.clone(), failed, step.clone(), done], true), Status::Done);
        assert_eq!(status(&[step.clone(), stopped], false), Status::Stopped);
        assert_eq!(status(std::slice::from_ref(&step), true), Status::Failed);
        assert_eq!(status(&[step], false), Status::Unfinished);
    }

    #[test]
    fn settings_are_flat() {
        let table = "seed = 1\n[data]\nkind = \"digits\"\n[a.b]\nc = [1, 2]\n".parse().unwrap();
        let mut settings = BTreeMap::new();
        flatten("", &table, &mut settings);
        let need = [("a.b.c", "[1, 2]"), ("data.kind", "digits"), ("seed", "1")];
        assert_eq!(settings, need.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}
