//! Compares what each host says with this machine, before anything starts.

use std::fmt;

use super::file::{Host, Hosts};
use super::probe::{Answer, Identity, Probe};

/// Hosts that are asked at once.
const AT_ONCE: usize = 32;

/// A difference of clocks that no longer is one of the network; checkpoints and logs would be out of order.
const MAX_SKEW_MS: u64 = 2_000;

/// One host, and whether it is fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) host: Host,
    pub(crate) result: Result<Identity, Unfit>,
}

/// Why a host is not fit for the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Nobody knows its address.
    Unresolved,
    /// It does not answer.
    Unreachable(String),
    /// It does not let this user in.
    Key,
    /// It is not the machine that it was.
    HostKey,
    /// The program is not there.
    NoProgram,
    /// The program is of another version.
    Version { got: String, need: String },
    /// The machine is of another kind.
    Architecture { got: String, need: String },
    /// The program is another build of the same version.
    Build,
    /// Its clock is wrong by so many seconds, at least.
    Clock { seconds: u64 },
    /// What it said is no answer.
    Unreadable(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved => f.write_str("nobody knows its address"),
            Self::Unreachable(words) => write!(f, "out of reach: {words}"),
            Self::Key => f.write_str("refuses the key: copy the public key to its authorized_keys"),
            Self::HostKey => f.write_str("its host key is not in known_hosts, or has changed"),
            Self::NoProgram => {
                f.write_str("the program is not there: it must have the same path on every host")
            }
            Self::Version { got, need } => write!(f, "phalanx {got}, need {need}"),
            Self::Architecture { got, need } => write!(f, "a machine of kind {got}, need {need}"),
            Self::Build => f.write_str("another build of the program: its bits may differ"),
            Self::Clock { seconds } => write!(f, "its clock is wrong by {seconds} s or more"),
            Self::Unreadable(words) => write!(f, "no answer of the program: {words:?}"),
        }
    }
}

/// Asks every host.
pub(crate) fn check(hosts: &Hosts, own: &Identity, probe: &dyn Probe) -> Vec<Checked> {
    let hosts: Vec<&Host> = hosts.iter().collect();
    let ask = |host: &Host| Checked { host: host.clone(), result: judge(&probe.ask(&host.name), own) };
    hosts
        .chunks(AT_ONCE)
        .flat_map(|chunk| {
            std::thread::scope(|scope| {
                let asked: Vec<_> = chunk.iter().map(|host| scope.spawn(|| ask(host))).collect();
                asked.into_iter().filter_map(|answer| answer.join().ok()).collect::<Vec<_>>()
            })
        })
        .collect()
}

/// What one answer means.
fn judge(answer: &Answer, own: &Identity) -> Result<Identity, Unfit> {
    let words = || answer.err.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let says = |parts: &[&str]| parts.iter().any(|part| answer.err.contains(part));
    match answer.code {
        Some(0) => {}
        // 255 is the remote shell's own failure
        Some(255) if says(&["Could not resolve", "Name or service not known"]) => {
            return Err(Unfit::Unresolved);
        }
        Some(255) if says(&["Host key verification failed", "REMOTE HOST IDENTIFICATION"]) => {
            return Err(Unfit::HostKey);
        }
        Some(255) if says(&["Permission denied", "Too many authentication"]) => return Err(Unfit::Key),
        Some(126 | 127) => return Err(Unfit::NoProgram),
        Some(255) => return Err(Unfit::Unreachable(words().to_owned())),
        None if answer.out.is_empty() && says(&["No such file"]) => return Err(Unfit::NoProgram),
        _ => return Err(Unfit::Unreadable(words().to_owned())),
    }
    let unreadable = |_| Unfit::Unreadable(answer.out.chars().take(80).collect());
    let identity: Identity = serde_json::from_str(answer.out.trim()).map_err(unreadable)?;
    let (sent, came) = answer.between_ms;
    let skew = sent.saturating_sub(identity.clock_ms).max(identity.clock_ms.saturating_sub(came));
    if identity.version != own.version {
        Err(Unfit::Version { got: identity.version, need: own.version.clone() })
    } else if identity.architecture != own.architecture {
        Err(Unfit::Architecture { got: identity.architecture, need: own.architecture.clone() })
    } else if identity.program != own.program {
        Err(Unfit::Build)
    } else if skew > MAX_SKEW_MS {
        Err(Unfit::Clock { seconds: skew / 1000 })
    } else {
        Ok(identity)
    }
}

/// The hosts, a line each, with what is wrong.
pub(crate) fn table(checked: &[Checked]) -> String {
    let width = checked.iter().map(|row| row.host.name.len()).max().unwrap_or(0).max(4);
    let head = format!("{:<width$}  slots  cpus  state\n", "host");
    checked.iter().fold(head, |text, Checked { host: Host { name, slots }, result }| {
        let (cpus, state) = match result {
            Ok(identity) => (identity.cpus.to_string(), "ok".to_owned()),
            Err(unfit) => ("-".to_owned(), unfit.to_string()),
        };
        text + &format!("{name:<width$}  {slots:>5}  {cpus:>4}  {state}\n")
    })
}

#[cfg(test)]
mod tests {
    use super::{Answer, Identity, Probe, Unfit, check, judge, table};
    use crate::hosts::Hosts;

    fn own() -> Identity {
        Identity {
            version: "0.1.0".to_owned(),
            architecture: "x86_64".to_owned(),
            program: "ab".to_owned(),
            cpus: 8,
            clock_ms: 100_000,
        }
    }

    fn says(identity: &Identity) -> Answer {
        let out = serde_json::to_string(identity).expect("json");
        Answer { code: Some(0), out, err: String::new(), between_ms: (100_000, 100_300) }
    }

    fn fails(code: i32, err: &str) -> Unfit {
        let answer = Answer { code: Some(code), out: String::new(), err: err.to_owned(), between_ms: (0, 0) };
        judge(&answer, &own()).expect_err("unfit")
    }

    #[test]
    fn the_remote_shells_complaints_are_told_apart() {
        assert_eq!(
            fails(255, "ssh: Could not resolve hostname nod3: Name or service not known"),
            Unfit::Unresolved
        );
        assert_eq!(fails(255, "root@node3: Permission denied (publickey)."), Unfit::Key);
        assert_eq!(fails(255, "Host key verification failed."), Unfit::HostKey);
        let timeout = "ssh: connect to host node3 port 22: Connection timed out\n";
        assert_eq!(fails(255, timeout), Unfit::Unreachable(timeout.trim().to_owned()));
        assert_eq!(fails(127, "bash: /opt/phalanx: No such file or directory"), Unfit::NoProgram);
        assert_eq!(fails(1, "Killed"), Unfit::Unreadable("Killed".to_owned()));
    }

    #[test]
    fn another_program_machine_or_time_is_unfit() {
        let judged = |change: fn(&mut Identity)| {
            let mut other = own();
            change(&mut other);
            judge(&says(&other), &own())
        };
        assert!(judged(|_| {}).is_ok());
        assert!(judged(|id| id.clock_ms += 2_300).is_ok(), "within the network's delay");
        let skewed = judged(|id| id.clock_ms += 9_400);
        assert_eq!(skewed.expect_err("unfit"), Unfit::Clock { seconds: 9 });
        let late = judged(|id| id.clock_ms -= 5_000);
        assert_eq!(late.expect_err("unfit"), Unfit::Clock { seconds: 5 });
        let old = judged(|id| id.version = "0.0.9".to_owned()).expect_err("unfit");
        assert_eq!(old.to_string(), "phalanx 0.0.9, need 0.1.0");
        assert!(matches!(
            judged(|id| id.architecture = "aarch64".to_owned()),
            Err(Unfit::Architecture { .. })
        ));
        assert_eq!(judged(|id| id.program = "cd".to_owned()), Err(Unfit::Build));
    }

    struct Fleet;

    impl Probe for Fleet {
        fn ask(&self, host: &str) -> Answer {
            match host {
                "node2" => Answer { code: Some(255), err: "Permission denied".to_owned(), ..says(&own()) },
                "node3" => Answer { out: "Welcome!".to_owned(), ..says(&own()) },
                _ => says(&own()),
            }
        }
    }

    #[test]
    fn the_table_has_a_line_a_host_in_their_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("hosts");
        std::fs::write(&file, "node1 slots=4\nnode2 slots=16\nnode3\n").expect("a file");
        let checked = check(&Hosts::read(&file).expect("hosts"), &own(), &Fleet);
        assert_eq!(
            table(&checked),
            "\
host   slots  cpus  state
node1      4     8  ok
node2     16     -  refuses the key: copy the public key to its authorized_keys
node3      1     -  no answer of the program: \"Welcome!\"
"
        );
    }
}
