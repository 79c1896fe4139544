"""The machine under the comparison: its load, and the SETUP file that names it."""

import os
import platform
import re
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

QUIET_CORES = 0.2


class Load:
    """Within a `with`: the cores that others kept busy, beside this process's children, and those the host took."""

    def __enter__(self):
        self._own, self._began = _children_seconds(), time.monotonic()
        self._busy, self._stolen = _busy_seconds()
        return self

    def __exit__(self, *_):
        elapsed = time.monotonic() - self._began
        own = _children_seconds() - self._own
        busy, stolen = _busy_seconds()
        self.cores = max(0.0, (busy - self._busy - own) / elapsed)
        self.stolen_cores = (stolen - self._stolen) / elapsed


def wait_until_quiet(patience):
    """Waits for a second in which others use few cores; after `patience` seconds it stops insisting."""
    end = time.monotonic() + patience
    while True:
        with Load() as load:
            time.sleep(1)
        if load.cores < QUIET_CORES or time.monotonic() > end:
            return load.cores


def _busy_seconds():
    """CPU seconds of the whole machine, user, nice, system, irq and softirq; and those that its host gave to others."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, steal / ticks


def _children_seconds():
    """CPU seconds of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cpu_model():
    """The first processor's name."""
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def slug():
    """A directory name for this machine: its processor and the cores one may use."""
    words = re.sub(r"\((R|TM)\)|CPU|Processor|@.*", " ", cpu_model()).lower()
    return "-".join(re.findall(r"[a-z0-9]+", words)) + f"-{len(os.sched_getaffinity(0))}c"


def setup(peer_python, phalanx):
    """What someone needs to run the same again, a fact a line."""
    flags = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    wide = [flag for flag in (flags[1].split() if flags else []) if flag.startswith(("avx", "amx", "fma"))]
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 1e6
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "vector flags": " ".join(sorted(wide)),
        "memory": f"{memory:.1f} GB",
        "kernel": platform.release(),
        "transparent huge pages": huge.read_text().strip() if huge.exists() else "unknown",
        "commit": _output("git", "rev-parse", "HEAD") + (" and changes" if _output("git", "status", "--porcelain") else ""),
        "rustc": _output("rustc", "--version"),
        "python": _output(peer_python, "--version"),
        "torch": _output(peer_python, "-c", "import torch; print(torch.__version__)"),
        "numpy": _output(peer_python, "-c", "import numpy; print(numpy.__version__)"),
        "phalanx command": phalanx,
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
    }
    return "".join(f"{name}: {value}\n" for name, value in facts.items())


def _output(*command):
    """A command's first line, or that it could not be had."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip().split("\n")[0]
