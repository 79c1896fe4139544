//! Rules of the tree that the compiler does not hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layer of each crate; a dependency leads to a lower layer.
const LAYERS: &[(&str, u8)] = &[
    ("phalanx-tensor", 0),
    ("phalanx-comm", 0),
    ("phalanx-grad", 1),
    ("phalanx-data", 1),
    ("phalanx-cuda", 1),
    ("phalanx-nn", 2),
    ("phalanx-optim", 2),
    ("phalanx-batch", 2),
    ("phalanx-comm-mpi", 2),
    ("phalanx-comm-nccl", 2),
    ("phalanx-robust", 2),
    ("phalanx-compress", 2),
    ("phalanx-train", 3),
    ("phalanx-federated", 4),
    ("phalanx", 5),
    ("phalanx-launch", 6),
    // beside the layers: on L0 and L1, for tests
    ("phalanx-testkit", 2),
    ("phalanx-softcuda", 0),
];

/// Crates with `unsafe` code: SIMD kernels, the memory that thread ranks share, the calls of MPI, NCCL and CUDA, and what stands in
/// for a GPU; xtask calls the compiler of kernels.
const MAY_BE_UNSAFE: [&str; 7] = [
    "phalanx-tensor",
    "phalanx-comm",
    "phalanx-comm-mpi",
    "phalanx-comm-nccl",
    "phalanx-cuda",
    "phalanx-softcuda",
    "xtask",
];

/// The longest file that still has one subject.
const MAX_LINES: usize = 1200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `dir` with this extension, without what is built.
fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "runs" && !name.starts_with('.') {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|ext| ext == extension) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(root(), "rs", &mut found);
    assert!(found.len() > 100, "{} sources are not all", found.len());
    found
}

fn crates() -> Vec<String> {
    let entries = fs::read_dir(root().join("crates")).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The crates of ours under `[dependencies]`, which tests and build scripts may go beyond.
fn dependencies(manifest: &str) -> Vec<&str> {
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap_or_default();
    let section = rest.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| *name == "phalanx" || name.starts_with("phalanx-")).collect()
}

#[test]
fn dependencies_only_go_down() {
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    for name in crates() {
        let layer = layers.get(&*name).unwrap_or_else(|| panic!("{name} has no layer"));
        let manifest = read(&root().join("crates").join(&name).join("Cargo.toml"));
        for dependency in dependencies(&manifest) {
            assert!(layers[dependency] < *layer, "{name} depends on {dependency}, which is not below it");
        }
    }
    let train = read(&root().join("crates/phalanx-train/Cargo.toml"));
    assert!(dependencies(&train).contains(&"phalanx-comm"), "manifests are read");
}

#[test]
fn the_loop_names_no_method() {
    let mut sources = Vec::new();
    files(&root().join("crates/phalanx-train/src"), "rs", &mut sources);
    for file in sources {
        let text = read(&file);
        for method in ["Sgd", "AdamW", "AdaGrad", "phalanx_batch", "Krum", "Adam", "PCGrad"] {
            assert!(!text.contains(method), "{} names {method}", file.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in sources() {
        let text = read(&file);
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 10, "{} begins with {first:?}", file.display());
    }
}

#[test]
fn no_file_has_two_subjects() {
    for file in sources() {
        let lines = read(&file).lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines, {MAX_LINES} at most", file.display());
    }
}

#[test]
fn unsafe_code_stays_where_it_is() {
    let heads =
        crates().into_iter().map(|name| (name.clone(), root().join("crates").join(name).join("src/lib.rs")));
    let others =
        [("tests", "tests/src/lib.rs"), ("benches", "benches/src/lib.rs"), ("xtask", "xtask/src/main.rs")];
    let others = others.map(|(name, file)| (name.to_owned(), root().join(file)));
    for (name, file) in heads.chain(others) {
        let forbids = read(&file).contains("#![forbid(unsafe_code)]");
        assert_eq!(forbids, !MAY_BE_UNSAFE.contains(&&*name), "{}", file.display());
    }
}

#[test]
fn every_test_runs() {
    // put together here, so that this file does not find itself
    let ignored = ["#[", "ignore"].concat();
    for file in sources() {
        assert!(!read(&file).contains(&ignored), "{} ignores a test", file.display());
    }
}

#[test]
fn the_architecture_names_every_crate() {
    let page = read(&root().join("ARCHITECTURE.md"));
    for name in crates().into_iter().chain(["phalanx-tests".to_owned(), "phalanx-benches".to_owned()]) {
        assert!(page.contains(&format!("`{name}`")), "ARCHITECTURE.md does not name {name}");
    }
    assert!(page.lines().count() <= 300, "a page to read in one sitting");
}

/// Targets of `[text](target)` in a document, without those elsewhere on the web and without code blocks.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|t| !t.is_empty() && !t.contains("://"))
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut pages = Vec::new();
    files(root(), "md", &mut pages);
    let mut count = 0;
    for page in pages {
        for target in links(&read(&page)) {
            let file = page.parent().expect("a directory").join(target);
            assert!(file.exists(), "{} links to {target}", page.display());
            count += 1;
        }
    }
    assert!(count > 10, "{count} links are not all");
}

#[test]
fn the_readme_shows_the_first_example() {
    let (readme, example) = (read(&root().join("README.md")), read(&root().join("examples/01_two_ranks.rs")));
    let (_, program) = readme.split_once("```rust\n").expect("a program");
    let body =
        program.split("```").next().unwrap_or_default().lines().filter(|line| line.starts_with("    "));
    let body: Vec<&str> = body.map(str::trim).collect();
    assert!(body.len() > 5, "{body:?}");
    for line in body {
        assert!(example.contains(line), "the example has no line {line:?}");
    }
}
