//! `phalanx env`: what the program found out about its launcher and its machine.

use std::io::Write;

use super::write_rows;
use crate::environment::Lookup;
use crate::launcher::{Explicit, detect};

pub(super) fn env(explicit: &Explicit, lookup: Lookup<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    let detected = detect(explicit, lookup);
    let told = |number: Option<usize>| number.map_or_else(|| "not told".to_owned(), |n| n.to_string());
    let mut rows = vec![("host", phalanx_train::host())];
    match &detected.placement {
        None => rows.push(("launcher", "none: this process stands alone".to_owned())),
        Some(place) => rows.extend([
            ("launcher", place.source.launcher().to_owned()),
            ("rank", format!("{} of {}", place.rank, place.size)),
            ("local rank", format!("{} of {}", told(place.local_rank), told(place.local_size))),
            ("first host", place.first_host.clone().unwrap_or_else(|| "not told".to_owned())),
        ]),
    }
    let cpus = std::thread::available_parallelism().map_or_else(|_| "not told".to_owned(), |n| n.to_string());
    rows.extend([("cpus", cpus), ("kernels", format!("{:?}", phalanx_tensor::CpuLevel::detect()))]);
    write_rows(out, &rows)?;
    writeln!(out, "\nasked in this order:")?;
    for finding in &detected.findings {
        writeln!(out, "  {:<26}{}", finding.source.to_string(), finding.why)?;
    }
    for note in &detected.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::env;
    use crate::launcher::Explicit;

    fn told(vars: &[(&str, &str)]) -> String {
        let lookup = |name: &str| vars.iter().find(|(of, _)| *of == name).map(|(_, v)| (*v).to_owned());
        let mut out = Vec::new();
        env(&Explicit::default(), &lookup, &mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_place_is_told_with_its_reason() {
        let text = told(&[("RANK", "2"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "node1")]);
        for line in
            ["launcher    torchrun", "rank        2 of 4", "local rank  0 of not told", "first host  node1"]
        {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
        assert!(text.contains("  RANK and WORLD_SIZE       used\n"), "{text}");
        assert!(text.contains("  SLURM_*                   not set\n"), "{text}");
    }

    #[test]
    fn alone_is_told_too() {
        assert!(told(&[]).contains("none: this process stands alone"));
    }
}
