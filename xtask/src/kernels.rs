//! `cargo xtask kernels`: the kernels of `phalanx-cuda` from their sources to what is checked in, or a comparison of both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, bail};
use flate2::Compression;
use flate2::read::GzEncoder;

use crate::nvrtc::Nvrtc;
use crate::shell::root;

/// The package of the compiler, whose version and checksum are in `xtask/nvrtc.txt`.
pub(crate) const PACKAGE: &str = "nvidia-cuda-nvrtc-cu12";

/// The version of the compiler. Its PTX is what drivers from CUDA 12.9 on compile; newer compilers' is not.
const VERSION: (i32, i32) = (12, 9);

/// Compute capabilities that kernels are compiled for.
const CAPABILITIES: [u32; 3] = [80, 90, 100];

/// Products and sums stay apart, so that results have the bits of the CPU; kernels write fused ones where they want them.
const OPTIONS: [&str; 2] = ["--std=c++17", "--fmad=false"];

/// What all compiled files may have in bytes.
const MOST_BYTES: usize = 3 << 20;

/// Whether files are written or compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    Write,
    Check,
}

/// The environment in which `cargo xtask setup` puts the compiler.
pub(crate) fn environment() -> PathBuf {
    root().join("target/nvrtc")
}

/// The directory of the compiler's libraries, if it is here.
fn compiler() -> Option<PathBuf> {
    let lib = fs::read_dir(environment().join("lib")).ok()?;
    let places = lib.filter_map(|entry| Some(entry.ok()?.path().join("site-packages/nvidia/cuda_nvrtc/lib")));
    places.into_iter().find(|place| place.join("libnvrtc.so.12").exists())
}

/// Whether the compiler is here.
pub(crate) fn has_compiler() -> bool {
    compiler().is_some()
}

/// Compiles all kernels; the result is written, or compared byte for byte.
pub(crate) fn kernels(what: Kernels) -> Result<()> {
    let place = compiler().context("NVRTC is not here: `cargo xtask setup` installs it")?;
    let nvrtc = Nvrtc::open(&place)?;
    if nvrtc.version()? != VERSION {
        bail!("NVRTC is of version {:?}, kernels are compiled by {VERSION:?}", nvrtc.version()?);
    }
    let sources = root().join("crates/phalanx-cuda/kernels");
    let made = compile(&nvrtc, &sources)?;
    let bytes: usize = made.values().map(Vec::len).sum();
    if bytes > MOST_BYTES {
        bail!("the compiled kernels have {bytes} bytes, {MOST_BYTES} are the most");
    }
    let compiled = sources.join("compiled");
    let superfluous = superfluous(&compiled, &made);
    if what == Kernels::Write {
        fs::create_dir_all(&compiled)?;
        for name in &superfluous {
            fs::remove_file(compiled.join(name))?;
        }
        for (name, bytes) in &made {
            fs::write(compiled.join(name), bytes).with_context(|| format!("writing {name}"))?;
        }
        println!("{} files of {bytes} bytes in {}", made.len(), compiled.display());
        return Ok(());
    }
    let differs =
        |(name, bytes): &(&String, &Vec<u8>)| fs::read(compiled.join(name)).ok().as_ref() != Some(*bytes);
    let mut stale: Vec<&str> = made.iter().filter(differs).map(|(name, _)| name.as_str()).collect();
    stale.extend(superfluous.iter().map(String::as_str));
    if !stale.is_empty() {
        bail!("{} are not what the sources compile to: run `cargo xtask kernels`", stale.join(", "));
    }
    println!("{} files of compiled kernels are what their sources give", made.len());
    Ok(())
}

/// Text in a tenth of its bytes, the same ones each time.
fn packed(text: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzEncoder::new(text, Compression::best()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Names of files of `compiled` that are none of those made.
fn superfluous(compiled: &Path, made: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let entries = fs::read_dir(compiled).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !made.contains_key(name)).collect()
}

/// Leaves out PTX that differs from that of the capability before it by the line of its target alone: the driver compiles
/// the older one to the same.
fn without_repeated(ptx: Vec<(u32, Vec<u8>)>) -> Vec<(u32, Vec<u8>)> {
    let mut kept: Vec<(u32, Vec<u8>)> = Vec::new();
    for (capability, text) in ptx {
        let of = |capability: u32, text: &[u8]| {
            String::from_utf8_lossy(text).replacen(&format!("\n.target sm_{capability}\n"), "\n", 1)
        };
        let is_repeated =
            kept.last().is_some_and(|(older, before)| of(*older, before) == of(capability, &text));
        if !is_repeated {
            kept.push((capability, text));
        }
    }
    kept
}

/// Every file by its name: packed PTX and machine code for each capability, and the table of resources.
fn compile(nvrtc: &Nvrtc, sources: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(sources)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|ext| ext == "cu" || ext == "cuh") {
            files.push((name, fs::read_to_string(&path)?));
        }
    }
    files.sort();
    // one module of all
    let all: String = files
        .iter()
        .filter(|(name, _)| name.ends_with(".cu"))
        .map(|(name, _)| format!("#include \"{name}\"\n"))
        .collect();
    let for_one = |capability: u32| {
        let arch = format!("--gpu-architecture=compute_{capability}");
        let portable = nvrtc.compile(&all, &files, &[&OPTIONS[..], &[&arch]].concat())?;
        warn(&portable.log)?;
        let arch = format!("--gpu-architecture=sm_{capability}");
        let own = nvrtc.compile(&all, &files, &[&OPTIONS[..], &[&arch, "--ptxas-options=-v"]].concat())?;
        Ok((portable.ptx, own.cubin, resources(&own.log)?))
    };
    let for_one = &for_one;
    let compiled: Vec<Result<_>> = thread::scope(|scope| {
        let started = CAPABILITIES.map(|capability| scope.spawn(move || for_one(capability)));
        let finished = started.into_iter().map(thread::ScopedJoinHandle::join);
        finished.map(|one| one.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut made = BTreeMap::new();
    let (mut uses, mut texts) = (Vec::new(), Vec::new());
    for (capability, compiled) in CAPABILITIES.into_iter().zip(compiled) {
        let (ptx, cubin, used) = compiled?;
        texts.push((capability, ptx));
        made.insert(format!("sm_{capability}.cubin"), cubin);
        uses.push(used);
    }
    for (capability, text) in without_repeated(texts) {
        made.insert(format!("compute_{capability}.ptx.gz"), packed(&text)?);
    }
    made.insert("resources.md".to_owned(), table(&uses)?.into_bytes());
    Ok(made)
}

/// A warning of the compiler is an error: nobody would read it.
fn warn(log: &str) -> Result<()> {
    if log.trim().is_empty() { Ok(()) } else { bail!("the compiler warns:\n{log}") }
}

/// What a kernel needs on one architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    registers: u32,
    /// Static shared memory in bytes.
    shared: u32,
    /// Bytes of local memory, spills among them.
    stack: u32,
    spilled: u32,
}

/// Reads the log of the assembler.
fn resources(log: &str) -> Result<BTreeMap<String, Use>> {
    let mut found: BTreeMap<String, Use> = BTreeMap::new();
    let mut kernel = String::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            kernel = rest.split('\'').next().unwrap_or_default().to_owned();
            found.insert(kernel.clone(), Use::default());
        }
        let Some(held) = found.get_mut(&kernel) else { continue };
        if line.contains("bytes stack frame") {
            held.stack = before(line, "bytes stack frame")?;
            held.spilled = before(line, "bytes spill stores")? + before(line, "bytes spill loads")?;
        } else if line.contains("Used ") {
            held.registers = before(line, "registers")?;
            held.shared = if line.contains(" smem") { before(line, "bytes smem")? } else { 0 };
        }
    }
    let faults: Vec<String> = found
        .iter()
        .filter(|(_, held)| held.stack + held.spilled > 0)
        .map(|(kernel, held)| format!("{kernel} ({} bytes of stack, {} spilled)", held.stack, held.spilled))
        .collect();
    if !faults.is_empty() {
        bail!("kernels that do not fit into registers: {}", faults.join(", "));
    }
    if found.is_empty() {
        bail!("the compiler tells nothing of registers");
    }
    Ok(found)
}

/// The number before some words.
fn before(line: &str, words: &str) -> Result<u32> {
    let (head, _) = line.split_once(words).with_context(|| format!("no {words} in {line:?}"))?;
    let number = head.split_whitespace().last().unwrap_or_default();
    number.parse().with_context(|| format!("{number:?} before {words}"))
}

/// Registers and shared memory of each kernel, a column an architecture.
fn table(uses: &[BTreeMap<String, Use>]) -> Result<String> {
    let mut text = "# What kernels need\n\n\
        Registers a thread on each architecture, and bytes of static shared memory a block. None spills, none has local\n\
        memory: `cargo xtask kernels`, which writes this page, refuses it.\n\n| kernel |"
        .to_owned();
    let mut rule = "|---|".to_owned();
    for capability in CAPABILITIES {
        write!(text, " sm_{capability} |")?;
        rule.push_str("---|");
    }
    writeln!(text, " shared |\n{rule}---|")?;
    let first = uses.first().context("an architecture")?;
    for (kernel, held) in first {
        write!(text, "| {kernel} |")?;
        for of in uses {
            write!(text, " {} |", of.get(kernel).copied().unwrap_or_default().registers)?;
        }
        writeln!(text, " {} |", held.shared)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{Use, resources, without_repeated};

    const LOG: &str = "ptxas info    : 0 bytes gmem\n\
        ptxas info    : Compiling entry function 'fill' for 'sm_80'\n\
        ptxas info    : Function properties for fill\n    \
        0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
        ptxas info    : Used 10 registers, used 1 barriers, 128 bytes smem, 376 bytes cmem[0]\n";

    #[test]
    fn the_log_of_the_assembler_is_read() {
        let found = resources(LOG).unwrap();
        assert_eq!(found["fill"], Use { registers: 10, shared: 128, stack: 0, spilled: 0 });
    }

    #[test]
    fn ptx_that_says_the_same_is_kept_once() {
        let ptx = |capability: u32, body: &str| {
            (capability, format!(".version 8.8\n.target sm_{capability}\n{body}\n").into_bytes())
        };
        let all = vec![ptx(80, "ret;"), ptx(90, "ret;"), ptx(100, "exit;")];
        assert_eq!(without_repeated(all), [ptx(80, "ret;"), ptx(100, "exit;")]);
    }

    #[test]
    fn a_spill_is_an_error() {
        let spilled = LOG.replace("0 bytes stack frame, 0 bytes spill", "8 bytes stack frame, 8 bytes spill");
        let error = resources(&spilled).unwrap_err().to_string();
        assert!(error.ends_with("fill (8 bytes of stack, 8 spilled)"), "{error}");
        assert!(resources("").is_err());
    }
}
