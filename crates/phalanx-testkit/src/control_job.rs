//! Ranks that are processes with nothing but a control channel: a test starts itself once a rank.

use phalanx_comm::control::{Board, Card, Control, Limits, Phase, Port, Secret, Watched};
use phalanx_comm::{Rank, WorldSize};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a rank finds the others: `DIR:RANK:RANKS:BOUND`, the bound in milliseconds.
const PLACE: &str = "PHALANX_TEST_CONTROL";

/// How long ranks may take to find each other.
const START: Duration = Duration::from_secs(20);

/// Ranks as processes, in a directory of their own. Dropping it ends them.
#[derive(Debug)]
pub struct ControlJob {
    dir: PathBuf,
    ranks: Vec<Child>,
    bound: Duration,
}

impl ControlJob {
    /// Starts `ranks` processes, each by the command that `start` makes for it, which has to run a test that does
    /// nothing but call [`ControlJob::rank`].
    ///
    /// # Panics
    /// When they do not find each other.
    pub fn start(name: &str, ranks: usize, bound: Duration, start: impl Fn(usize) -> Command) -> Self {
        let dir = std::env::temp_dir().join(format!("phalanx-control-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let place = |rank| format!("{}:{rank}:{ranks}:{}", dir.display(), bound.as_millis());
        let spawn = |rank| {
            let mut command = start(rank);
            command.env(PLACE, place(rank)).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("a process")
        };
        let job = Self { ranks: (0..ranks).map(spawn).collect(), bound, dir };
        wait_for(|| (0..ranks).all(|rank| job.dir.join(format!("pid-{rank}")).exists()));
        // links are made
        std::thread::sleep(Duration::from_millis(400));
        job
    }

    /// The body of a rank; returns at once in a process that is none.
    ///
    /// # Panics
    /// When the ranks do not find each other.
    pub fn rank() {
        let Some(place) = std::env::var_os(PLACE) else { return };
        let place: Vec<&str> = place.to_str().map(|text| text.split(':').collect()).unwrap_or_default();
        let [dir, rank, ranks, bound] = place[..] else { panic!("{place:?} is no place of a rank") };
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let (dir, rank, ranks) = (Path::new(dir), number(rank), number(ranks));
        let port = Port::open(&format!("node{}", rank + 1)).expect("a port");
        publish(&card(dir, rank), &port.card().encode());
        wait_for(|| (0..ranks).all(|rank| card(dir, rank).exists()));
        let read = |rank| Card::decode(&fs::read(card(dir, rank)).expect("a card")).expect("a card");
        let board = Arc::new(Board::new(WorldSize(ranks)));
        let said = dir.join(format!("said-{rank}"));
        let control = Control::start(
            port,
            Rank(rank),
            (0..ranks).map(read).collect(),
            Secret::from_bytes([3; Secret::LEN]),
            Watched::board(Arc::clone(&board)),
            Limits::within(Duration::from_millis(number(bound) as u64)),
            move |verdict| publish(&said, verdict.to_string().as_bytes()),
        );
        let control = control.expect("a channel");
        publish(&dir.join(format!("pid-{rank}")), std::process::id().to_string().as_bytes());
        for step in 1.. {
            board.enter(Rank(rank), step, Phase::Backward);
            if control.wait(Duration::from_millis(20)).is_some() || dir.join("done").exists() {
                return;
            }
        }
    }

    /// Sends a signal, such as `-KILL`, to the process of a rank.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, rank: usize, signal: &str) {
        let pid = fs::read_to_string(self.dir.join(format!("pid-{rank}"))).expect("its id");
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    /// What these ranks said when they ended, and when the last of them had.
    ///
    /// # Panics
    /// When one does not end within twice the bound, or says nothing.
    pub fn words_of(&mut self, ranks: &[usize]) -> (Vec<String>, Duration) {
        let began = Instant::now();
        let mut words = Vec::new();
        for &rank in ranks {
            while self.ranks[rank].try_wait().expect("a process").is_none() {
                assert!(began.elapsed() < 2 * self.bound, "rank {rank} does not end");
                std::thread::sleep(Duration::from_millis(5));
            }
            let said = self.said(rank);
            words.push(said.unwrap_or_else(|| panic!("rank {rank} said nothing: {}", self.stderr(rank))));
        }
        (words, began.elapsed())
    }

    /// What a rank has said by now.
    pub fn said(&self, rank: usize) -> Option<String> {
        fs::read_to_string(self.dir.join(format!("said-{rank}"))).ok()
    }

    /// Lets all ranks end.
    ///
    /// # Panics
    /// When the directory is gone.
    pub fn finish(&self) {
        publish(&self.dir.join("done"), b"");
    }

    fn stderr(&mut self, rank: usize) -> String {
        let mut text = String::new();
        self.ranks[rank].stderr.take().map(|mut stream| stream.read_to_string(&mut text));
        text
    }
}

impl Drop for ControlJob {
    fn drop(&mut self) {
        for rank in 0..self.ranks.len() {
            if self.ranks[rank].try_wait().ok().flatten().is_none() {
                // by its own id: a command that entered a node may have left its process to another
                let pid = fs::read_to_string(self.dir.join(format!("pid-{rank}"))).unwrap_or_default();
                Command::new("kill").args(["-KILL", &pid]).status().map(drop).unwrap_or_default();
                self.ranks[rank].kill().unwrap_or_default();
            }
            self.ranks[rank].wait().map(drop).unwrap_or_default();
        }
        fs::remove_dir_all(&self.dir).unwrap_or_default();
    }
}

fn card(dir: &Path, rank: usize) -> PathBuf {
    dir.join(format!("card-{rank}"))
}

/// Writes a file that is there whole or not at all.
fn publish(file: &Path, bytes: &[u8]) {
    let beside = file.with_extension("new");
    fs::write(&beside, bytes).expect("a file");
    fs::rename(beside, file).expect("a file");
}

fn wait_for(is_done: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_done() {
        assert!(began.elapsed() < START, "the ranks do not find each other");
        std::thread::sleep(Duration::from_millis(5));
    }
}
