//! The control channel between processes that die and stop.

use phalanx_testkit::ControlJob;
use std::process::Command;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(2);
const RANKS: usize = 3;

/// Not a test of its own: what each process runs that the others start.
#[test]
fn rank_of_a_job() {
    ControlJob::rank();
}

fn start(name: &str) -> ControlJob {
    ControlJob::start(name, RANKS, BOUND, |_| {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "rank_of_a_job"]);
        command
    })
}

fn others(lost: usize) -> Vec<usize> {
    (0..RANKS).filter(|rank| *rank != lost).collect()
}

#[test]
fn a_process_that_is_killed_is_named_long_before_the_bound() {
    for lost in 0..RANKS {
        let mut job = start("killed");
        job.signal(lost, "-KILL");
        let (words, took) = job.words_of(&others(lost));
        for text in words {
            assert!(text.starts_with(&format!("rank {lost} on node{} died (step ", lost + 1)), "{text}");
            assert!(text.contains("backward"), "{text}");
        }
        assert!(took < BOUND, "{took:?}");
    }
}

#[test]
fn a_process_that_is_stopped_is_named_within_the_bound() {
    for lost in 0..RANKS {
        let mut job = start("stopped");
        job.signal(lost, "-STOP");
        let (words, took) = job.words_of(&others(lost));
        for text in words {
            let expected = format!("rank {lost} on node{} gave no sign of life for", lost + 1);
            assert!(text.starts_with(&expected) && text.contains("its host answers"), "{text}");
        }
        assert!(took < BOUND + Duration::from_millis(500), "{took:?}");
    }
}

#[test]
fn a_process_that_is_stopped_and_goes_on_in_time_is_no_failure() {
    let job = start("goes-on");
    job.signal(1, "-STOP");
    std::thread::sleep(BOUND / 2);
    job.signal(1, "-CONT");
    std::thread::sleep(2 * BOUND);
    let said: Vec<_> = (0..RANKS).filter_map(|rank| job.said(rank)).collect();
    assert!(said.is_empty(), "{said:?}");
    job.finish();
}
