//! One fault, as the run file has it and as it is meant.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use phalanx_comm::control::Phase;

use crate::runfile::Value;

/// What happens to a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its process ends at once, as by `kill -9`.
    Kill,
    /// Its process stops, as by `kill -STOP`.
    Stop,
    /// It does nothing for a time.
    Delay(Duration),
    /// Its control links carry nothing, for a time or for good.
    Drop(Option<Duration>),
    /// Its next control messages are changed on their way.
    Corrupt,
    /// From then on it can write no file of the run.
    FullDisk,
}

/// A fault, and when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Injection {
    /// What happens.
    pub kind: Kind,
    /// To which rank.
    pub rank: usize,
    /// In which step, from 1.
    pub step: u64,
    /// In which phase of it; without, as soon as the step begins.
    pub phase: Option<Phase>,
}

/// What is wrong with a fault's sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "need `KIND rank N at step N [in PHASE] [for SECONDS s]` with kill, stop, delay, drop, corrupt or full-disk, got {got:?}"
)]
pub struct InjectionError {
    /// The sentence.
    pub got: String,
}

impl FromStr for Injection {
    type Err = InjectionError;

    fn from_str(text: &str) -> Result<Self, InjectionError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        read(&words).ok_or_else(|| InjectionError { got: text.to_owned() })
    }
}

fn read(words: &[&str]) -> Option<Injection> {
    let [kind, "rank", rank, "at", "step", step, rest @ ..] = words else { return None };
    let (phase, rest) = match rest {
        ["in", phase, rest @ ..] => (Some(*Phase::ALL.iter().find(|known| known.name() == *phase)?), rest),
        rest => (None, rest),
    };
    let time = match rest {
        [] => None,
        ["for", seconds, "s"] => Some(Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?),
        _ => return None,
    };
    let kind = match (*kind, time) {
        ("kill", None) => Kind::Kill,
        ("stop", None) => Kind::Stop,
        ("delay", Some(time)) => Kind::Delay(time),
        ("drop", time) => Kind::Drop(time),
        ("corrupt", None) => Kind::Corrupt,
        ("full-disk", None) => Kind::FullDisk,
        _ => return None,
    };
    Some(Injection { kind, rank: rank.parse().ok()?, step: step.parse().ok()?, phase })
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, time) = match self.kind {
            Kind::Kill => ("kill", None),
            Kind::Stop => ("stop", None),
            Kind::Delay(time) => ("delay", Some(time)),
            Kind::Drop(time) => ("drop", time),
            Kind::Corrupt => ("corrupt", None),
            Kind::FullDisk => ("full-disk", None),
        };
        write!(f, "{name} rank {} at step {}", self.rank, self.step)?;
        self.phase.map_or(Ok(()), |phase| write!(f, " in {phase}"))?;
        time.map_or(Ok(()), |time| write!(f, " for {} s", time.as_secs_f64()))
    }
}

/// The faults of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injections(pub Vec<Injection>);

impl Value for Injections {
    fn expects() -> String {
        "faults in a list, such as [\"kill rank 1 at step 3 in backward\"]".to_owned()
    }

    fn read(toml: &toml::Value) -> Option<Self> {
        let one = |item: &toml::Value| item.as_str()?.parse().ok();
        toml.as_array()?.iter().map(one).collect::<Option<_>>().map(Self)
    }

    fn write(&self) -> Option<toml::Value> {
        Some(self.0.iter().map(|fault| toml::Value::String(fault.to_string())).collect::<Vec<_>>().into())
    }
}

#[cfg(test)]
mod tests {
    use super::{Injection, Kind};
    use phalanx_comm::control::Phase;
    use std::time::Duration;

    #[test]
    fn sentences_come_back_as_they_were() {
        for text in [
            "kill rank 1 at step 3 in backward",
            "stop rank 0 at step 1",
            "delay rank 2 at step 7 for 2.5 s",
            "drop rank 1 at step 3 in reduce for 1 s",
            "drop rank 1 at step 3",
            "corrupt rank 0 at step 2",
            "full-disk rank 0 at step 10 in checkpoint",
        ] {
            assert_eq!(text.parse::<Injection>().expect(text).to_string(), text);
        }
        let fault: Injection = "delay rank 2 at step 7 in data for 2.5 s".parse().expect("a fault");
        let kind = Kind::Delay(Duration::from_millis(2500));
        assert_eq!(fault, Injection { kind, rank: 2, step: 7, phase: Some(Phase::Data) });
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in [
            "",
            "kill",
            "kill rank x at step 3",
            "kill rank 1 at step 3 in lunch",
            "kill rank 1 at step 3 for 2 s",
            "delay rank 1 at step 3",
            "delay rank 1 at step 3 for -2 s",
            "delay rank 1 at step 3 for NaN s",
            "melt rank 1 at step 3",
        ] {
            let error = text.parse::<Injection>().expect_err(text);
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
