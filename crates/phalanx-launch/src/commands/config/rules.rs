//! `phalanx config rules`: rules over ranks, pre-aggregators and attacks, with settings, least numbers and laws.

use std::io::{self, Write};

use phalanx_robust::registry::{Entry, Kind, entries};

pub(super) fn write(out: &mut dyn Write) -> io::Result<()> {
    let sections = [
        (Kind::Rule, "Rules: one gradient from those of n ranks, of which f may be hostile."),
        (Kind::PreAggregator, "Pre-aggregators: act before a rule; their laws are what they leave of its."),
        (Kind::Attack, "Attacks: what hostile ranks send."),
    ];
    for (at, (kind, title)) in sections.into_iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{title}")?;
        entries().iter().filter(|entry| entry.kind == kind).try_for_each(|entry| one(entry, out))?;
    }
    Ok(())
}

fn one(entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
    let needs =
        if entry.min_n.is_some() { format!("  n >= {}", entry.min_n_formula()) } else { String::new() };
    let line = format!("  {:<20}{needs}", entry.name);
    writeln!(out, "{}", line.trim_end())?;
    for (setting, default) in &entry.settings {
        let default = if default.is_empty() { "not given" } else { default };
        writeln!(out, "      {setting} = {default}")?;
    }
    if entry.kind != Kind::Attack {
        writeln!(out, "      laws: {}", entry.laws)?;
    }
    Ok(())
}
