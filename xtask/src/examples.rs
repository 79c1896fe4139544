//! `cargo xtask examples`: every program in `examples/`, run to its end.

use anyhow::{Context as _, Result};

use crate::shell::{FEATURES, cargo, command, root, run, target};

pub(crate) fn examples() -> Result<()> {
    let folder = root().join("examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let file = entry?.path();
        let name = file.file_stem().context("a file has a name")?.to_string_lossy().replace('_', "-");
        names.push(name);
    }
    names.sort();
    // with the features of the tests, which have built most of it
    run(cargo(&["build", "--quiet", "--workspace", "--features", FEATURES, "--examples"]))?;
    let built = target().join("debug/examples");
    names.iter().try_for_each(|name| run(command(built.join(name), &[])))
}
