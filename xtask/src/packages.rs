//! Licences, sources and bans of every package in the tree, by the lists of `deny.toml`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::licence;
use crate::shell::{cargo, output, root};

/// Checks what cargo resolves for the workspace.
pub(crate) fn check() -> Result<()> {
    let rules = fs::read_to_string(root().join("deny.toml")).context("reading deny.toml")?;
    let (allowed, banned) = (list(&rules, "allow")?, list(&rules, "deny")?);
    let args = ["tree", "--workspace", "--locked", "--edges", "normal,build,dev", "--prefix", "none"];
    let tree = output(cargo(&[&args[..], &["--format", "{p};{l}"]].concat()))?;
    let packages: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let faults: Vec<String> =
        packages.iter().filter_map(|package| fault(package, &allowed, &banned)).collect();
    if !faults.is_empty() {
        bail!("{} packages are against deny.toml:\n  {}", faults.len(), faults.join("\n  "));
    }
    println!("{} packages: licences, sources and bans are as deny.toml says", packages.len());
    Ok(())
}

/// What is wrong with a package, given as `NAME VERSION [(SOURCE)];LICENCE`.
fn fault(package: &str, allowed: &BTreeSet<&str>, banned: &BTreeSet<&str>) -> Option<String> {
    let (name, terms) = package.split_once(';')?;
    // cargo names the source of what is not from its registry, and marks macros
    let source = name.split_once(" (").map_or("", |(_, source)| source).trim_end_matches(')');
    let is_own = source.starts_with(&*root().to_string_lossy());
    let crate_name = name.split(' ').next().unwrap_or_default();
    if banned.contains(crate_name) {
        return Some(format!("{name} is banned"));
    }
    if !is_own && !source.is_empty() && source != "proc-macro" {
        return Some(format!("{name} is not from the registry"));
    }
    (!licence::is_allowed(terms, allowed)).then(|| format!("{name} has the licence {terms:?}"))
}

/// The strings of a list in `deny.toml`, by its key: quoted, one or more a line.
fn list<'a>(rules: &'a str, key: &str) -> Result<BTreeSet<&'a str>> {
    let start = format!("\n{key} = [");
    let (_, rest) = rules.split_once(&start).with_context(|| format!("deny.toml has no list {key}"))?;
    let (items, _) = rest.split_once("\n]").with_context(|| format!("the list {key} has no end"))?;
    let lines = items.lines().map(|line| line.split('#').next().unwrap_or_default());
    Ok(lines.flat_map(|line| line.split('"').skip(1).step_by(2)).collect())
}

#[cfg(test)]
mod tests {
    use super::{fault, list};
    use std::collections::BTreeSet;

    #[test]
    fn a_list_is_what_stands_in_quotes() {
        let rules = "[licenses]\nallow = [\n    \"MIT\", \"ISC\",\n    \"Zlib\", # not \"GPL\"\n]\n";
        assert_eq!(list(rules, "allow").unwrap(), BTreeSet::from(["ISC", "MIT", "Zlib"]));
        assert!(list(rules, "deny").is_err());
    }

    #[test]
    fn each_rule_has_its_fault() {
        let (allowed, banned) = (BTreeSet::from(["MIT"]), BTreeSet::from(["native-tls"]));
        let told = |package| fault(package, &allowed, &banned).unwrap_or_default();
        assert_eq!(told("serde v1.0.0;MIT"), "");
        assert_eq!(told("serde_derive v1.0.0 (proc-macro);MIT"), "");
        assert_eq!(told("native-tls v0.2.0;MIT"), "native-tls v0.2.0 is banned");
        assert!(
            told("left v1.0.0 (https://example.org/left.git#abc);MIT").ends_with("not from the registry")
        );
        assert_eq!(told("copyleft v1.0.0;GPL-3.0"), "copyleft v1.0.0 has the licence \"GPL-3.0\"");
        assert_eq!(told("nothing v1.0.0;"), "nothing v1.0.0 has the licence \"\"");
    }
}
