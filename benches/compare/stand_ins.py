"""Stand-ins for the NVIDIA libraries of a CUDA-built torch that will only ever run on a CPU.

The loader wants every library that torch names, with the versions and symbols that torch binds to;
nothing calls into them on a machine without a GPU. So each missing library is made with those names
and no code behind them.

usage: stand_ins.py VENV      needs ldd, nm, objdump, as, ld
"""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path


def run(*command):
    """A command's output; ldd and nm say on stderr what is of no interest here."""
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False).stdout


def missing_from(library):
    """The libraries that the loader looks for in vain."""
    return set(re.findall(r"^\s*(\S+) => not found", run("ldd", library), re.MULTILINE))


def owners(library):
    """Which needed file declares which symbol version: `{version: file}`."""
    found, file = {}, None
    for line in run("objdump", "-p", library).splitlines():
        if match := re.match(r"\s+required from (\S+?):?$", line):
            file = match[1]
        elif file and (match := re.match(r"\s+0x\w+ 0x\w+ \d+ (\S+)", line)):
            found[match[1]] = file
        elif not line.strip():
            file = None
    return found


def undefined(library):
    """Symbols that must come from elsewhere, as `(name, version or None)`; weak ones may stay away."""
    for line in run("nm", "-D", "--undefined-only", library).splitlines():
        kind, symbol = line.split()[-2:]
        if kind == "U":
            name, _, version = symbol.partition("@")
            yield name, version.lstrip("@") or None


def defined(library):
    """Names that a library provides, whatever their version."""
    for line in run("nm", "-D", "--defined-only", library).splitlines():
        yield line.split()[-1].partition("@")[0]


def wanted(libraries):
    """What each missing library must offer: `{file: {version or None: names}}`."""
    wants = defaultdict(lambda: defaultdict(set))
    provided = {name for library in libraries for name in defined(library)}
    for library in libraries:
        missing = sorted(missing_from(library))
        if not missing:
            continue
        owner = owners(library)
        for file in missing:
            wants[file][None]
        for version, file in owner.items():
            if file in missing:
                wants[file][version]
        for name, version in undefined(library):
            if owner.get(version) in missing:
                wants[owner[version]][version].add(name)
            elif version is None and name not in provided:
                # torch loads all of them into one name space, so any of them may offer it
                wants[missing[0]][None].add(name)
    return wants


def build(file, versions, directory):
    """Assembles and links one stand-in, each symbol eight zero bytes."""
    names = sorted(set().union(*versions.values()))
    script = "".join(
        "%s { global: %s };\n" % (version, " ".join(f"{name};" for name in sorted(symbols)) or "*;")
        for version, symbols in sorted((v, s) for v, s in versions.items() if v)
    )
    with tempfile.TemporaryDirectory() as scratch:
        source, unit, symbols = (Path(scratch) / name for name in ("unit.s", "unit.o", "unit.map"))
        source.write_text(".data\n" + "".join(f".globl {name}\n{name}: .quad 0\n" for name in names))
        symbols.write_text(script)
        versioned = ["--version-script", symbols] if script else []
        subprocess.run(["as", "-o", unit, source], check=True)
        subprocess.run(["ld", "-shared", "-soname", file, *versioned, "-o", directory / file, unit], check=True)
    print(f"{file}: {len(names)} names")


if __name__ == "__main__":
    (directory,) = Path(sys.argv[1]).glob("lib/python*/site-packages/torch/lib")
    for file, versions in sorted(wanted(sorted(directory.glob("*.so*"))).items()):
        build(file, versions, directory)
