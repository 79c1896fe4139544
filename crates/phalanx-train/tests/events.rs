//! Events as files: the form of the lines, what a resume keeps, and what a reader forgives.
use std::fs;
use std::time::Duration;

use phalanx_train::events::{
    Aggregated, CheckpointSaved, EvalDone, Event, EventWriter, RankLeftOut, RunFailed, RunFinished,
    RunStarted, Split, StepDone, read,
};
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

fn step(step: u64) -> Event {
    Event::Step(StepDone { step, samples: 64 * step, loss: 0.5, lr: 0.05, batch: 64, ..StepDone::default() })
}

fn checkpoint(step: u64) -> Event {
    Event::Checkpoint(CheckpointSaved { step, ..CheckpointSaved::default() })
}

#[test]
fn lines_are_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    let mut writer = EventWriter::create(&file, HOUR).unwrap();
    let diverged = StepDone {
        step: 2,
        loss: f64::NAN,
        grad_norm: Some(f64::INFINITY),
        skipped: true,
        ..StepDone::default()
    };
    let eval = EvalDone { step: 2, samples: 128, split: Split::Validation, loss: 0.25, accuracy: Some(0.9) };
    let left_out = RankLeftOut {
        rank: 3,
        reason: "left_out".to_owned(),
        detail: "was left out by krum".to_owned(),
        score: Some(1.5),
    };
    let round =
        Aggregated { step: 2, rule: "krum".to_owned(), left_out: vec![left_out], ..Aggregated::default() };
    let events = [step(1), Event::Step(diverged), Event::Eval(eval), Event::Aggregated(round)];
    for event in &events {
        writer.write(event).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "", "buffered until the interval is over");
    drop(writer);
    let need = concat!(
        r#"{"event":"step","step":1,"samples":64,"loss":0.5,"lr":0.05,"batch":64,"samples_per_second":0.0,"#,
        r#""seconds":0.0,"exposed_comm_seconds":0.0,"data_seconds":0.0}"#,
        "\n",
        r#"{"event":"step","step":2,"samples":0,"loss":"NaN","lr":0.0,"batch":0,"grad_norm":"Infinity","#,
        r#""samples_per_second":0.0,"seconds":0.0,"exposed_comm_seconds":0.0,"data_seconds":0.0,"skipped":true}"#,
        "\n",
        r#"{"event":"eval","step":2,"samples":128,"split":"validation","loss":0.25,"accuracy":0.9}"#,
        "\n",
        r#"{"event":"aggregated","step":2,"rule":"krum","left_out":[{"rank":3,"reason":"left_out","#,
        r#""detail":"was left out by krum","score":1.5}]}"#,
        "\n",
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), need);
    let back = read(&file).unwrap();
    assert_eq!(back.bad_lines, [0_u64; 0]);
    assert_eq!((&back.events[0], &back.events[2..]), (&events[0], &events[2..]));
    let Event::Step(got) = back.events[1] else { panic!("{back:?}") };
    assert!(got.loss.is_nan() && got.grad_norm == Some(f64::INFINITY) && got.skipped);
}

#[test]
fn events_are_on_disk_after_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    let mut writer = EventWriter::create(&file, Duration::ZERO).unwrap();
    writer.write(&step(1)).unwrap();
    assert_eq!(read(&file).unwrap().events, [step(1)]);
    drop(writer);
}

#[test]
fn a_resume_shows_each_step_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    let started = |step| Event::RunStarted(RunStarted { step, ..RunStarted::default() });
    let mut writer = EventWriter::create(&file, HOUR).unwrap();
    let failed = Event::Failure(RunFailed { step: 3, ..RunFailed::default() });
    for event in [started(0), step(1), step(2), checkpoint(2), step(3), failed] {
        writer.write(&event).unwrap();
    }
    drop(writer);
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str("{\"event\":\"st");
    fs::write(&file, text).unwrap();

    let mut writer = EventWriter::resume(&file, 2, HOUR).unwrap();
    for event in [started(2), step(3), step(4)] {
        writer.write(&event).unwrap();
    }
    drop(writer);
    let need = [started(0), step(1), step(2), checkpoint(2), started(2), step(3), step(4)];
    assert_eq!(read(&file).unwrap().events, need);
}

#[test]
fn a_finished_run_that_goes_on_is_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    let mut writer = EventWriter::create(&file, HOUR).unwrap();
    for event in [step(1), checkpoint(1), Event::Finished(RunFinished { step: 1, ..RunFinished::default() })]
    {
        writer.write(&event).unwrap();
    }
    drop(writer);
    drop(EventWriter::resume(&file, 1, HOUR).unwrap());
    assert_eq!(read(&file).unwrap().events, [step(1), checkpoint(1)]);
    drop(EventWriter::resume(&dir.path().join("new.jsonl"), 1, HOUR).unwrap());
    assert_eq!(read(&dir.path().join("new.jsonl")).unwrap().events, []);
}

#[test]
fn the_reader_forgives_a_cut_line_and_counts_bad_ones() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    let long = "x".repeat(3 << 20);
    let text = format!(
        "{{\"event\":\"tomorrow\",\"step\":1}}\nnonsense\n{long}\n{{\"event\":\"step\",\"step\":9}}\n{{\"event\":\"step\""
    );
    fs::write(&file, text).unwrap();
    let log = read(&file).unwrap();
    assert_eq!(log.events, [Event::Unknown, Event::Step(StepDone { step: 9, ..StepDone::default() })]);
    assert_eq!(log.bad_lines, [2, 3]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_resumed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events.jsonl");
        fs::write(&file, &bytes).unwrap();
        let before = read(&file).unwrap();
        drop(EventWriter::resume(&file, step, HOUR).unwrap());
        let after = fs::read(&file).unwrap();
        prop_assert!(bytes.starts_with(&after) && (after.is_empty() || after.ends_with(b"\n")));
        prop_assert!(read(&file).unwrap().events.len() <= before.events.len());
    }
}
