//! The hosts file: a host a line, `name slots=N`, as mpirun reads it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A machine, and how many ranks it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) slots: usize,
}

/// The hosts of a job, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hosts(Vec<Host>);

/// What is wrong with a hosts file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// It cannot be read.
    #[error("cannot read the hosts file {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It lists none.
    #[error("{} lists no host", file.display())]
    NoHosts {
        /// The file.
        file: PathBuf,
    },
    /// A name that no host has.
    #[error("{}, line {line}: {name:?} is no name of a host", file.display())]
    Name {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        name: String,
    },
    /// A host that is listed twice.
    #[error("{}, line {line}: {name} is listed in line {first} already", file.display())]
    Duplicate {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The host.
        name: String,
        /// Where it is listed first.
        first: usize,
    },
    /// A number of slots that cannot be.
    #[error("{}, line {line}: slots={got:?}, need a number of at least 1", file.display())]
    Slots {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        got: String,
    },
    /// Something besides the name and its slots.
    #[error("{}, line {line}: {word:?} is not known, a line is NAME slots=N", file.display())]
    Word {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        word: String,
    },
    /// More ranks than slots.
    #[error("{ranks} ranks, but {} slots on {hosts} hosts", slots)]
    TooFewSlots {
        /// The ranks that were asked for.
        ranks: usize,
        /// The slots of all hosts.
        slots: usize,
        /// How many hosts there are.
        hosts: usize,
    },
}

impl Hosts {
    /// Reads and checks a hosts file.
    pub(crate) fn read(file: &Path) -> Result<Self, HostsError> {
        let unreadable = |source| HostsError::Unreadable { file: file.to_owned(), source };
        Self::parse(&fs::read_to_string(file).map_err(unreadable)?, file)
    }

    fn parse(text: &str, file: &Path) -> Result<Self, HostsError> {
        let mut hosts: Vec<(usize, Host)> = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.split('#').next().unwrap_or_default();
            let mut words = content.split_whitespace();
            let Some(name) = words.next() else { continue };
            let file = || file.to_owned();
            if !is_host_name(name) {
                return Err(HostsError::Name { file: file(), line, name: name.to_owned() });
            }
            let same = hosts.iter().find(|(_, host)| host.name.eq_ignore_ascii_case(name));
            if let Some((first, _)) = same {
                return Err(HostsError::Duplicate {
                    file: file(),
                    line,
                    name: name.to_owned(),
                    first: *first,
                });
            }
            let mut slots = 1;
            for word in words {
                let Some(number) = word.strip_prefix("slots=") else {
                    return Err(HostsError::Word { file: file(), line, word: word.to_owned() });
                };
                let is_some = |slots: &usize| *slots > 0;
                let wrong = || HostsError::Slots { file: file(), line, got: number.to_owned() };
                slots = number.parse().ok().filter(is_some).ok_or_else(wrong)?;
            }
            hosts.push((line, Host { name: name.to_owned(), slots }));
        }
        match hosts.is_empty() {
            true => Err(HostsError::NoHosts { file: file.to_owned() }),
            false => Ok(Self(hosts.into_iter().map(|(_, host)| host).collect())),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Host> {
        self.0.iter()
    }

    pub(crate) fn slots(&self) -> usize {
        self.0.iter().map(|host| host.slots).sum()
    }

    /// Whether `ranks` fit.
    ///
    /// # Errors
    /// [`HostsError::TooFewSlots`].
    pub(crate) fn check_room(&self, ranks: usize) -> Result<(), HostsError> {
        match (self.slots(), self.0.len()) {
            (slots, hosts) if slots < ranks => Err(HostsError::TooFewSlots { ranks, slots, hosts }),
            _ => Ok(()),
        }
    }

    /// Those that `is_left` says; `None` if there are none.
    pub(crate) fn only(&self, is_left: impl Fn(&Host) -> bool) -> Option<Self> {
        let left: Vec<_> = self.0.iter().filter(|host| is_left(host)).cloned().collect();
        (!left.is_empty()).then_some(Self(left))
    }

    /// The file that mpirun is given.
    pub(crate) fn to_text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, Host { name, slots }| {
            // writing to a string does not fail
            writeln!(text, "{name} slots={slots}").unwrap_or_default();
            text
        })
    }
}

/// A name or an address: no option of a program, and nothing that a shell reads.
fn is_host_name(name: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    name.chars().all(is_fit) && !name.starts_with(['-', '.']) && name.len() <= 253
}

#[cfg(test)]
mod tests {
    use super::{Hosts, HostsError};
    use std::path::Path;

    fn parse(text: &str) -> Result<Hosts, HostsError> {
        Hosts::parse(text, Path::new("hosts"))
    }

    #[test]
    fn hosts_have_one_slot_unless_they_say_more() {
        let hosts = parse("# two\nnode1 slots=4\n\n  node2  # one\n10.0.0.3 slots=2\n").expect("hosts");
        assert_eq!(hosts.to_text(), "node1 slots=4\nnode2 slots=1\n10.0.0.3 slots=2\n");
        assert_eq!(hosts.slots(), 7);
        assert!(hosts.check_room(7).is_ok());
        let error = hosts.check_room(8).expect_err("too many").to_string();
        assert_eq!(error, "8 ranks, but 7 slots on 3 hosts");
    }

    #[test]
    fn each_flaw_is_named_with_its_line() {
        let told = |text| parse(text).expect_err(text).to_string();
        assert_eq!(told("# none\n"), "hosts lists no host");
        assert_eq!(told("a\nb\nA slots=2"), "hosts, line 3: A is listed in line 1 already");
        assert_eq!(told("a slots=0"), "hosts, line 1: slots=\"0\", need a number of at least 1");
        assert_eq!(told("a slots=many"), "hosts, line 1: slots=\"many\", need a number of at least 1");
        assert_eq!(told("a\n-oProxyCommand=x"), "hosts, line 2: \"-oProxyCommand=x\" is no name of a host");
        assert_eq!(told("a max=2"), "hosts, line 1: \"max=2\" is not known, a line is NAME slots=N");
    }

    #[test]
    fn hosts_that_are_left_keep_their_slots() {
        let hosts = parse("a slots=2\nb\nc slots=3").expect("hosts");
        let left = hosts.only(|host| host.name != "b").expect("two");
        assert_eq!(left.to_text(), "a slots=2\nc slots=3\n");
        assert_eq!(left.only(|_| false), None);
    }
}
