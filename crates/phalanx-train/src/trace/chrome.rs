//! Merges lanes into one file of Chrome's trace format, JSON array form.
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::{Lane, Phase, Span};
use crate::ArtefactError;

/// Writes the lanes of all ranks to `file`: one process `name`, one thread a rank.
///
/// Spans that lie across another's end, as those of buckets that other threads reduce can, would be drawn
/// wrongly in the lane of their rank: they get a second lane below it.
///
/// # Errors
/// [`ArtefactError::Io`].
///
/// # Reference
/// "Trace Event Format", Google, 2016: complete events (`X`) and metadata events (`M`).
pub fn write(file: &Path, name: &str, lanes: &[Lane]) -> Result<(), ArtefactError> {
    let work = || -> io::Result<()> {
        let mut out = Events { out: BufWriter::new(File::create(file)?), first: true };
        out.event(&json!({"ph": "M", "pid": 0, "name": "process_name", "args": {"name": name}}))?;
        let mut lanes: Vec<&Lane> = lanes.iter().collect();
        lanes.sort_by_key(|lane| lane.rank);
        for lane in lanes {
            write_lane(&mut out, lane)?;
        }
        out.finish()
    };
    work().map_err(ArtefactError::io("write", file))
}

fn write_lane(out: &mut Events, lane: &Lane) -> io::Result<()> {
    let (nested, crossing) = part_crossing(lane.spans().copied().collect());
    let dropped = match lane.dropped {
        0 => String::new(),
        dropped => format!(" ({dropped} older spans dropped)"),
    };
    let rank = lane.rank;
    // threads are sorted by number: a rank's second lane comes right below it
    thread(out, 2 * rank, &format!("rank {rank}{dropped}"))?;
    nested.iter().try_for_each(|span| complete(out, 2 * rank, span))?;
    if !crossing.is_empty() {
        thread(out, 2 * rank + 1, &format!("rank {rank}, in flight"))?;
    }
    crossing.iter().try_for_each(|span| complete(out, 2 * rank + 1, span))
}

/// Parts the spans into those that nest in one another and those that lie across an end.
fn part_crossing(mut spans: Vec<Span>) -> (Vec<Span>, Vec<Span>) {
    // buckets last among equals: they are the ones to give way
    let gives_way = |span: &Span| matches!(span.phase, Phase::Bucket(_));
    spans.sort_by_key(|span| (span.start_ns, std::cmp::Reverse(span.end_ns), gives_way(span)));
    let mut open: Vec<u64> = Vec::new();
    spans.into_iter().partition(|span| {
        while open.last().is_some_and(|&end| end <= span.start_ns) {
            open.pop();
        }
        let nests = open.last().is_none_or(|&end| span.end_ns <= end);
        if nests {
            open.push(span.end_ns);
        }
        nests
    })
}

fn thread(out: &mut Events, tid: u64, name: &str) -> io::Result<()> {
    out.event(&json!({"ph": "M", "pid": 0, "tid": tid, "name": "thread_name", "args": {"name": name}}))?;
    out.event(
        &json!({"ph": "M", "pid": 0, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}),
    )
}

fn complete(out: &mut Events, tid: u64, span: &Span) -> io::Result<()> {
    let micros = |ns: u64| ns as f64 / 1e3;
    let (name, category) = label(span.phase);
    out.event(&json!({
        "ph": "X", "pid": 0, "tid": tid, "name": name, "cat": category,
        "ts": micros(span.start_ns), "dur": micros(span.end_ns.saturating_sub(span.start_ns)),
        "args": {"step": span.step},
    }))
}

fn label(phase: Phase) -> (String, &'static str) {
    let (name, category) = match phase {
        Phase::Bucket(number) => return (format!("bucket {number}"), "communication"),
        Phase::Wait => ("wait", "communication"),
        Phase::Data => ("data", "input"),
        Phase::Forward => ("forward", "compute"),
        Phase::Backward => ("backward", "compute"),
        Phase::Optimizer => ("optimizer", "compute"),
        Phase::Eval => ("eval", "compute"),
        Phase::Checkpoint => ("checkpoint", "output"),
    };
    (name.to_owned(), category)
}

/// A JSON array, an element a line, written as it comes.
struct Events {
    out: BufWriter<File>,
    first: bool,
}

impl Events {
    fn event(&mut self, event: &serde_json::Value) -> io::Result<()> {
        self.out.write_all(if self.first { b"[\n" } else { b",\n" })?;
        self.first = false;
        serde_json::to_writer(&mut self.out, event).map_err(io::Error::from)
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.write_all(b"\n]\n")?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Clock;
    use super::*;

    fn span(phase: Phase, start_us: u64, end_us: u64) -> Span {
        Span { phase, step: 7, start_ns: 1000 * start_us, end_ns: 1000 * end_us }
    }

    fn events(name: &str, lanes: &[Lane]) -> Vec<serde_json::Value> {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), name, lanes).unwrap();
        serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap()
    }

    #[test]
    fn each_rank_has_a_lane_and_each_span_its_time() {
        let mut lanes = [1, 0].map(|rank| Lane::with_capacity(rank, Clock::start(), 8));
        for lane in &mut lanes {
            lane.push(span(Phase::Backward, 10, 30));
            lane.push(span(Phase::Bucket(2), 12, 20));
        }
        let all = events("a \"quoted\" </name>", &lanes);
        assert_eq!(all[0]["args"]["name"], "a \"quoted\" </name>");
        let names: Vec<_> = all.iter().filter(|event| event["name"] == "thread_name").collect();
        assert_eq!(names.len(), 2, "a lane a rank: {names:?}");
        let spans: Vec<_> = all.iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(spans.len(), 4);
        assert_eq!(
            *spans[1],
            json!({"ph": "X", "pid": 0, "tid": 0, "name": "bucket 2", "cat": "communication",
                   "ts": 12.0, "dur": 8.0, "args": {"step": 7}})
        );
        assert_eq!(spans[2]["tid"], 2);
    }

    #[test]
    fn a_bucket_that_outlives_backward_gets_the_second_lane() {
        let backward = span(Phase::Backward, 10, 30);
        let crossing = span(Phase::Bucket(0), 25, 40);
        let next = span(Phase::Optimizer, 30, 50);
        assert_eq!(part_crossing(vec![next, crossing, backward]), (vec![backward, next], vec![crossing]));
    }

    #[test]
    fn dropped_spans_are_told_in_the_lane_name() {
        let mut lane = Lane::with_capacity(3, Clock::start(), 1);
        lane.push(span(Phase::Data, 0, 1));
        lane.push(span(Phase::Data, 1, 2));
        let all = events("run", &[lane]);
        assert_eq!(all[1]["args"]["name"], "rank 3 (1 older spans dropped)");
    }

    #[test]
    fn no_lanes_are_valid_json_too() {
        assert_eq!(events("run", &[]).len(), 1);
    }
}
