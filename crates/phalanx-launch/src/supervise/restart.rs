//! Runs the starter of ranks to its end, again and again while it may.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::output::{Show, Sink};
use super::stragglers::{Mark, UntilEnded};
use crate::exit::Exit;
use crate::stop::StopRequest;

/// Between two looks at the starter.
const LOOK: Duration = Duration::from_millis(50);

/// How long the starter may take to end its ranks after it was told to.
const END: Duration = Duration::from_secs(10);

/// The pause before a restart: doubled each time, up to a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
}

impl Backoff {
    /// Before restart number `restart`, from 1.
    pub(crate) fn pause(&self, restart: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << (restart.saturating_sub(1)).min(16));
        doubled.min(Duration::from_secs(60))
    }
}

/// Keeps a job running.
#[derive(Debug)]
pub(crate) struct Supervisor<'a> {
    pub(crate) stop: &'a StopRequest,
    pub(crate) show: Show,
    pub(crate) ranks: usize,
    /// How long ranks may take to write a checkpoint when the job is asked to stop.
    pub(crate) grace: Duration,
}

impl Supervisor<'_> {
    /// Starts `words` and returns the exit code when it has ended, 128 + the signal if one ended it.
    ///
    /// # Errors
    /// When it cannot be started, or the logs cannot be written.
    pub(crate) fn run(&self, words: &[OsString], out: &mut (dyn Write + Send)) -> io::Result<i32> {
        let Some((program, args)) = words.split_first() else { return Ok(0) };
        let sink = Sink::new(self.show.clone(), self.ranks, out)?;
        // a group of its own: a signal of the terminal comes to this process, which tells the ranks in order
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mark = Mark::new();
        mark.put_on(&mut command);
        let mut child = command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = OnceLock::new();
        let (status, drained) = std::thread::scope(|scope| {
            let (sink, ended) = (&sink, &ended);
            let out = stdout.map(|stream| scope.spawn(|| sink.drain(UntilEnded { stream, ended })));
            let err = stderr.map(|stream| scope.spawn(|| sink.drain(UntilEnded { stream, ended })));
            let status = self.watch(&mut child);
            ended.get_or_init(Instant::now);
            mark.end_all();
            let drained = [out, err].into_iter().flatten().filter_map(|thread| thread.join().ok());
            (status, drained.collect::<io::Result<()>>())
        });
        drained?;
        Ok(code(status?))
    }

    /// Waits for the end, and passes a request to stop on: first for a checkpoint, then for an end, then no more asking.
    fn watch(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let Some(pid) = Pid::from_child_checked(child) else { return child.wait() };
        let steps =
            [(Duration::ZERO, Signal::USR1), (self.grace, Signal::TERM), (self.grace + END, Signal::KILL)];
        let (mut asked, mut told) = (None, 0);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if self.stop.is_made() {
                let asked: &Instant = asked.get_or_insert_with(Instant::now);
                while let Some((after, signal)) =
                    steps.get(told).filter(|(after, _)| asked.elapsed() >= *after)
                {
                    tracing::info!("asked to stop: signal {signal:?} after {} s", after.as_secs());
                    let sent = match *signal == Signal::KILL {
                        true => kill_process_group(pid, *signal),
                        false => kill_process(pid, *signal),
                    };
                    if let Err(error) = sent {
                        tracing::debug!("the starter cannot be signalled: {error}");
                    }
                    told += 1;
                }
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Checks the range that the system's calls take.
trait FromChild {
    fn from_child_checked(child: &Child) -> Option<Pid>;
}

impl FromChild for Pid {
    fn from_child_checked(child: &Child) -> Option<Pid> {
        i32::try_from(child.id()).ok().and_then(Pid::from_raw)
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As it should, or so that another attempt would end the same way.
    For(Exit),
    /// By a fault that another attempt may not meet.
    Fault(Exit),
}

/// What the exit code of a job means.
pub(crate) fn ended(code: i32) -> Ended {
    match code {
        0 => Ended::For(Exit::Done),
        2 => Ended::For(Exit::BadInput),
        4 => Ended::For(Exit::Stopped),
        // a full disk, a file server that was away
        1 => Ended::Fault(Exit::Failed),
        _ => Ended::Fault(Exit::RankLost),
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Ended, Supervisor, ended};
    use crate::exit::Exit;
    use crate::stop::StopRequest;
    use crate::supervise::Show;
    use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
    use std::time::{Duration, Instant};

    fn run(script: &str, stop: &StopRequest, grace: Duration) -> (i32, String) {
        let show = Show { only: None, is_colored: false, logs: None };
        let supervisor = Supervisor { stop, show, ranks: 2, grace };
        let mut out = Vec::new();
        let code = supervisor.run(&["sh", "-c", script].map(Into::into), &mut out).expect("started");
        (code, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn the_code_and_all_lines_come_back() {
        let (code, out) = run("echo '[1,1]<stdout>:hello'; exit 3", &StopRequest::default(), Duration::ZERO);
        assert_eq!((code, out.as_str()), (3, "[1] hello\n"));
        assert_eq!(run("kill -9 $$", &StopRequest::default(), Duration::ZERO).0, 137);
    }

    #[test]
    fn what_the_starter_leaves_behind_is_ended_and_keeps_nobody_waiting() {
        let began = Instant::now();
        // one that ends when told to, and one that does not; both hold the output open
        let script = "setsid sh -c 'echo $$; exec sleep 60' & \
                      setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done' & \
                      sleep 0.3; echo '[1,0]<stdout>:last'; exit 3";
        let (code, out) = run(script, &StopRequest::default(), Duration::ZERO);
        assert_eq!(code, 3);
        assert!(out.contains("[0] last\n"), "{out}");
        let left: Vec<_> = out.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)).collect();
        assert_eq!(left.len(), 2, "{out}");
        let lives = |pid: &Pid| test_kill_process(*pid).is_ok();
        while left.iter().filter(|pid| lives(pid)).count() > 1 && began.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let deaf: Vec<_> = left.into_iter().filter(lives).collect();
        assert_eq!(deaf.len(), 1, "one was told to end and did");
        kill_process_group(deaf[0], Signal::KILL).expect("it lives");
        assert!(began.elapsed() < Duration::from_secs(30), "they held the output open");
    }

    #[test]
    fn a_request_to_stop_reaches_the_starter_and_is_not_repeated_for_ever() {
        let stop = StopRequest::default();
        stop.make();
        let (code, out) = run(
            "trap 'echo saved; exit 4' USR1; while :; do sleep 0.05; done",
            &stop,
            Duration::from_secs(9),
        );
        // the signal may come before the trap is set
        assert!((code, out.as_str()) == (4, "saved\n") || code == 128 + 10, "{code} {out}");
        let began = Instant::now();
        let (code, _) = run("trap '' USR1; exec sleep 60", &stop, Duration::from_millis(300));
        assert!(code > 128 && began.elapsed() < Duration::from_secs(20), "{code}");
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let backoff = Backoff { first: Duration::from_secs(2) };
        let pauses: Vec<_> = [1, 2, 3, 6, 40].map(|restart| backoff.pause(restart).as_secs()).into();
        assert_eq!(pauses, [2, 4, 8, 60, 60]);
    }

    #[test]
    fn only_faults_are_tried_again() {
        assert_eq!(ended(0), Ended::For(Exit::Done));
        assert_eq!(ended(2), Ended::For(Exit::BadInput));
        assert_eq!(ended(4), Ended::For(Exit::Stopped));
        for code in [3, 137, 143, 205] {
            assert_eq!(ended(code), Ended::Fault(Exit::RankLost));
        }
        assert_eq!(ended(1), Ended::Fault(Exit::Failed));
    }
}
