//! What the ranks say: whose line it is, shown with its rank, and kept in a log a rank.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A line of one rank, or of the program that started it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) rank: Option<usize>,
    pub(super) text: &'a str,
}

/// Finds the rank that mpirun or srun put before a line: `[1,0]<stdout>:` of Open MPI 4, `[name@1,0]<stdout>: ` of
/// Open MPI 5, `[0] ` of MPICH, `0: ` of srun.
pub(super) fn parse(line: &str) -> Line<'_> {
    let tagged = || {
        let (tag, rest) = line.strip_prefix('[')?.split_once(']')?;
        let number = tag.rsplit(',').next()?.parse().ok()?;
        let of_stream =
            |stream: &str| rest.strip_prefix(stream).map(|text| text.strip_prefix(' ').unwrap_or(text));
        let text = ["<stdout>:", "<stderr>:", "<stddiag>:"].into_iter().find_map(of_stream);
        let text = text.or_else(|| rest.strip_prefix(' ').filter(|_| !tag.contains(',')))?;
        Some((number, text))
    };
    let labelled = || {
        let (label, text) = line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")))?;
        Some((label.trim().parse().ok()?, text))
    };
    match tagged().or_else(labelled) {
        Some((rank, text)) => Line { rank: Some(rank), text },
        None => Line { rank: None, text: line },
    }
}

/// The ranks whose lines are shown: `0,4-7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RankFilter(Vec<(usize, usize)>);

impl RankFilter {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some((first, last))
        };
        let ranges = text.split(',').map(range).collect::<Option<_>>();
        ranges.map(Self).ok_or_else(|| "need ranks and ranges of them, such as 0,4-7".to_owned())
    }

    fn takes(&self, rank: usize) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&rank))
    }
}

impl std::str::FromStr for RankFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

/// How lines are shown and where they are kept.
#[derive(Debug, Clone)]
pub(crate) struct Show {
    /// Whose lines are shown; all of them without.
    pub(crate) only: Option<RankFilter>,
    pub(crate) is_colored: bool,
    /// The directory of the logs.
    pub(crate) logs: Option<PathBuf>,
}

/// Colours that are told apart on dark and light ground.
const COLORS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Takes the lines of all ranks; one a time.
pub(super) struct Sink<W> {
    show: Show,
    width: usize,
    inner: Mutex<(W, BTreeMap<usize, File>)>,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(show: Show, ranks: usize, out: W) -> io::Result<Self> {
        if let Some(dir) = &show.logs {
            fs::create_dir_all(dir)?;
        }
        let width = ranks.saturating_sub(1).to_string().len();
        Ok(Self { show, width, inner: Mutex::new((out, BTreeMap::new())) })
    }

    /// Shows and keeps every line of a stream until it ends.
    pub(super) fn drain(&self, stream: impl Read) -> io::Result<()> {
        let mut stream = io::BufReader::new(stream);
        let mut bytes = Vec::new();
        while stream.read_until(b'\n', &mut bytes)? > 0 {
            let text = String::from_utf8_lossy(&bytes);
            self.take(&parse(text.trim_end_matches(['\n', '\r'])))?;
            bytes.clear();
        }
        Ok(())
    }

    fn take(&self, line: &Line<'_>) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (out, logs) = &mut *inner;
        if let (Some(dir), Some(rank)) = (&self.show.logs, line.rank) {
            let log = match logs.entry(rank) {
                std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(open(dir, rank)?),
            };
            writeln!(log, "{}", line.text)?;
        }
        let is_shown = |rank| self.show.only.as_ref().is_none_or(|only| only.takes(rank));
        match line.rank {
            None => writeln!(out, "{}", line.text),
            Some(rank) if is_shown(rank) => self.write(out, rank, line.text),
            Some(_) => Ok(()),
        }
    }

    fn write(&self, out: &mut W, rank: usize, text: &str) -> io::Result<()> {
        let width = self.width;
        match self.show.is_colored {
            true => writeln!(out, "\x1b[{}m[{rank:>width$}]\x1b[0m {text}", COLORS[rank % COLORS.len()]),
            false => writeln!(out, "[{rank:>width$}] {text}"),
        }
    }
}

/// Logs grow over restarts: what came before the fault is why it is read.
fn open(dir: &Path, rank: usize) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(dir.join(format!("rank-{rank}.log")))
}

#[cfg(test)]
mod tests {
    use super::{Line, RankFilter, Show, Sink, parse};

    #[test]
    fn the_tags_of_all_programs_are_read() {
        let of = |rank, text| Line { rank: Some(rank), text };
        assert_eq!(parse("[1,3]<stdout>:step 4"), of(3, "step 4"));
        assert_eq!(parse("[1,0]<stderr>:[0] is mine"), of(0, "[0] is mine"));
        assert_eq!(parse("[prterun-vm-7@1,12]<stdout>: step 4"), of(12, "step 4"));
        assert_eq!(parse("[2] step 4"), of(2, "step 4"));
        assert_eq!(parse(" 5: step: 4"), of(5, "step: 4"));
        assert_eq!(parse("5:"), of(5, ""));
    }

    #[test]
    fn what_no_rank_said_stays_whole() {
        for text in
            ["mpirun noticed that process rank 1", "[vm:123] some warning", "error: 5", "", "[1,x]<stdout>:a"]
        {
            assert_eq!(parse(text), Line { rank: None, text });
        }
    }

    #[test]
    fn filters_are_ranks_and_ranges() {
        let filter: RankFilter = "0,4-6".parse().expect("a filter");
        let taken: Vec<_> = (0..8).filter(|rank| filter.takes(*rank)).collect();
        assert_eq!(taken, [0, 4, 5, 6]);
        for text in ["", "a", "4-2", "1,,2", "-1"] {
            assert!(RankFilter::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lines_are_prefixed_filtered_and_logged() {
        let dir = tempfile::tempdir().expect("a directory");
        let show = Show {
            only: Some("0,11".parse().expect("a filter")),
            is_colored: false,
            logs: Some(dir.path().join("logs")),
        };
        let mut out = Vec::new();
        let sink = Sink::new(show.clone(), 12, &mut out).expect("a sink");
        let stream = "[1,0]<stdout>:a\r\n[1,1]<stderr>:b\nplain\n[1,11]<stdout>:\u{ff}\n[1,0]<stdout>:c";
        sink.drain(stream.as_bytes()).expect("drained");
        drop(sink);
        assert_eq!(String::from_utf8_lossy(&out), "[ 0] a\nplain\n[11] \u{ff}\n[ 0] c\n");
        let log = |rank: usize| std::fs::read_to_string(dir.path().join(format!("logs/rank-{rank}.log")));
        assert_eq!((log(0).expect("a log"), log(1).expect("a log")), ("a\nc\n".to_owned(), "b\n".to_owned()));

        let mut out = Vec::new();
        let sink = Sink::new(Show { is_colored: true, only: None, ..show }, 2, &mut out).expect("a sink");
        sink.drain(&b"[1,1]<stdout>:d\n"[..]).expect("drained");
        drop(sink);
        assert_eq!(String::from_utf8_lossy(&out), "\x1b[33m[1]\x1b[0m d\n");
        assert_eq!(log(1).expect("a log"), "b\nd\n", "logs grow");
    }
}
