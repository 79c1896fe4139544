//! Reads one table of a run file key by key and reports what is wrong with each.

use std::collections::BTreeSet;

use toml::Value as Toml;

use super::error::{At, Fault, Problem};
use super::key::{Group, Key, need, one_of, path};
use super::near::nearest;
use super::range::Range;
use super::raw::{Entries, Entry, Node, RawRun};
use super::value::Value;

/// One table of a run file, being read.
pub(crate) struct Reader<'a> {
    raw: &'a RawRun,
    section: &'static str,
    entries: Option<&'a Entries>,
    registered: &'a [String],
    kind: Kind,
    used: BTreeSet<String>,
    problems: &'a mut Vec<Problem>,
}

/// The kind of the section being read.
enum Kind {
    /// The section has no kinds.
    None,
    /// It has, but names none that is known, so that its keys cannot be judged by it.
    Unknown,
    /// This one.
    Known(String),
}

impl<'a> Reader<'a> {
    /// Opens a section; the empty name is the table of the whole file.
    pub(super) fn new(
        raw: &'a RawRun,
        section: &'static str,
        registered: &'a [String],
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        let entries = match raw.root().get(section) {
            _ if section.is_empty() => Some(raw.root()),
            None => None,
            Some(Entry { node: Node::Table(inner), .. }) => Some(inner),
            Some(Entry { node: Node::Leaf(got), value, .. }) => {
                let fault = Fault::Table { got: got.to_string(), section };
                problems.push(Problem::new(section, fault).at(raw.at(value)));
                None
            }
        };
        Self { raw, section, entries, registered, kind: Kind::None, used: BTreeSet::new(), problems }
    }

    /// Reads one key; `None` after a problem was reported.
    pub(super) fn value<T: Value>(&mut self, name: &str, range: Range, default: Option<T>) -> Option<T> {
        self.used.insert(name.to_owned());
        let Some(entry) = self.entries.and_then(|entries| entries.get(name)) else {
            let absent = default.or_else(T::when_absent);
            if absent.is_none() {
                self.report(name, self.at(""), Fault::Missing { need: need::<T>(range) });
            }
            return absent;
        };
        let got = entry.node.to_toml();
        match T::read(&got) {
            Some(value) if value.fits(range) => Some(value),
            _ => {
                let fault = match got.as_str() {
                    Some(word) if !T::names().is_empty() => unknown_name(name, word, T::names()),
                    _ => Fault::Value { got: got.to_string(), need: need::<T>(range) },
                };
                self.report(name, self.raw.at(&entry.value), fault);
                None
            }
        }
    }

    /// Reads the key that names the kind of the section.
    pub(super) fn kind(&mut self, tag: &str, known: &[&'static str], default: &[&str]) -> Option<String> {
        self.kind = Kind::Unknown;
        self.used.insert(tag.to_owned());
        let Some(entry) = self.entries.and_then(|entries| entries.get(tag)) else {
            match default.first() {
                Some(kind) => self.kind = Kind::Known((*kind).to_owned()),
                None => self.report(tag, self.at(""), Fault::Missing { need: one_of(known) }),
            }
            return default.first().map(|kind| (*kind).to_owned());
        };
        let at = self.raw.at(&entry.value);
        match entry.node.to_toml() {
            Toml::String(kind) if self.is_kind(&kind, known) => {
                self.kind = Kind::Known(kind.clone());
                Some(kind)
            }
            Toml::String(kind) => {
                let what = if tag == "kind" { self.section } else { tag };
                let names = known.iter().copied().chain(self.open_kinds().iter().map(String::as_str));
                let fault = unknown_name(what, &kind, &names.collect::<Vec<_>>());
                self.report(tag, at, fault);
                None
            }
            other => {
                self.report(tag, at, Fault::Value { got: other.to_string(), need: one_of(known) });
                None
            }
        }
    }

    /// All keys that were not read, for a kind whose keys are free.
    pub(super) fn rest(&mut self) -> toml::Table {
        let Some(entries) = self.entries else { return toml::Table::new() };
        let rest: toml::Table = entries
            .iter()
            .filter(|(name, _)| !self.used.contains(*name))
            .map(|(name, entry)| (name.clone(), entry.node.to_toml()))
            .collect();
        self.used.extend(rest.keys().cloned());
        rest
    }

    /// Which of `names` the table holds.
    pub(super) fn given(&self, names: &[&'static str]) -> Vec<&'static str> {
        let is_given = |name: &&'static str| self.entries.is_some_and(|entries| entries.contains_key(*name));
        names.iter().copied().filter(is_given).collect()
    }

    /// Reports a problem of the key `name`.
    pub(super) fn report(&mut self, name: &str, at: At, fault: Fault) {
        self.problems.push(Problem::new(&path(self.section, name), fault).at(at));
    }

    /// Where the value of the key `name` was written; for an empty name, the section.
    pub(super) fn at(&self, name: &str) -> At {
        self.raw.at_value(&path(self.section, name))
    }

    /// Reads a whole section, then reports every key in it that nobody read. `all` is every key
    /// of the run file, `sections` what may stand beside the section's own keys.
    pub(super) fn read_all<G: Group>(mut self, all: &[Key], sections: &[&'static str]) -> Option<G> {
        let group = G::read(&mut self);
        self.finish(all, sections);
        group
    }

    fn finish(mut self, all: &[Key], sections: &[&'static str]) {
        let Some(entries) = self.entries else { return };
        let is_section = |name: &str| self.section.is_empty() && sections.contains(&name);
        let unread = entries.iter().filter(|(name, _)| !self.used.contains(*name) && !is_section(name));
        for (name, entry) in unread.collect::<Vec<_>>() {
            if let Some(fault) = self.judge_unread(name, all, sections) {
                self.report(name, self.raw.at(&entry.key), fault);
            }
        }
    }

    fn judge_unread(&self, name: &str, all: &[Key], sections: &[&'static str]) -> Option<Fault> {
        let here = || all.iter().filter(|key| key.section == self.section);
        if here().any(|key| key.name == name) {
            let Kind::Known(kind) = &self.kind else { return None };
            let is_ours = |key: &&Key| key.kind.is_none_or(|of| of == kind);
            let takes = here().filter(is_ours).map(|key| key.name).collect();
            return Some(Fault::OtherKind { section: self.section, kind: kind.clone(), takes });
        }
        let takes = |key: &&Key| match (&self.kind, key.kind) {
            (Kind::Known(kind), Some(of)) => of == kind,
            _ => true,
        };
        let mut known: Vec<&'static str> = here().filter(takes).map(|key| key.name).collect();
        known.dedup();
        if self.section.is_empty() {
            known.extend(sections);
        }
        let elsewhere = || all.iter().find(|key| key.name == name && !key.section.is_empty()).map(Key::path);
        let near = nearest(name, known.iter().copied()).map(|near| path(self.section, near));
        let far = || {
            let paths: Vec<String> = all.iter().map(Key::path).collect();
            let wanted = path(self.section, name);
            nearest(&wanted, paths.iter().map(String::as_str)).map(str::to_owned)
        };
        Some(Fault::UnknownKey { nearest: elsewhere().or(near).or_else(far), known })
    }

    fn is_kind(&self, kind: &str, known: &[&str]) -> bool {
        known.contains(&kind) || self.open_kinds().iter().any(|name| name == kind)
    }

    /// Only models are registered by programs.
    fn open_kinds(&self) -> &'a [String] {
        if self.section == "model" { self.registered } else { &[] }
    }
}

fn unknown_name(what: &str, got: &str, known: &[&str]) -> Fault {
    Fault::UnknownName {
        what: what.to_owned(),
        got: got.to_owned(),
        nearest: nearest(got, known.iter().copied()).map(str::to_owned),
        known: known.iter().map(|name| (*name).to_owned()).collect(),
    }
}
