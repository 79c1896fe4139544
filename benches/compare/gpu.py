"""Trains the same models with phalanx and PyTorch on one GPU, and writes how they compare.

    python3 benches/compare/gpu.py --text shakespeare.txt --python python3

Itself it needs nothing but Python. A round runs phalanx once per row, then one process of PyTorch with all of
its jobs: a GPU that nobody else uses needs no closer turns, and torch takes seconds to start.
"""

import argparse
import csv
import ctypes
import json
import os
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import gpu_table
import machine
from variants import Row

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PHALANX = (
    "target/release/phalanx bench-step benches/compare/runs/{model}.toml --set data.path={data} --set train.batch={batch}"
    " --set train.ranks=1 --steps {steps} --device cuda"
)
COLUMNS = ["row", "model", "batch", "round", "variant", "steps", "samples_s_median", "samples_s_calm", "step_ms_median", "card_mb"]
COLUMNS += ["allocated_mb", "reserved_mb", "arena_mb", "arena_predicted_mb", "peak_rss_mb", "first_step_s", "first_loss"]
COLUMNS += ["last_loss", "train_loss", "tf32", "device", "torch", "error", "at"]

# two to three seconds of steps on an H100
ROWS = [
    Row("mlp", 128, 3000, 20),
    Row("mlp", 1024, 2000, 20),
    Row("lenet5", 1024, 1500, 20),
    Row("cnn", 128, 1500, 20),
    Row("cnn", 1024, 400, 20),
    Row("gpt", 128, 300, 20),
    Row("gpt", 1024, 60, 5),
]


@dataclass(frozen=True)
class Torch:
    """One way of PyTorch; `graphed device` is the fastest that an expert gets."""

    way: str
    place: str
    precision: str
    channels_last: bool = False

    @property
    def name(self):
        return f"torch {self.way} {self.place} {'cl ' * self.channels_last}{self.precision}"

    def suits(self, row):
        """The other models have no convolutions, so that channels-last would time the same program twice."""
        return not self.channels_last or row.model in ("lenet5", "cnn")

    def job(self, row, args):
        parts = [row.model, row.batch, args.steps_of(row), row.warmup, self.way, self.precision, self.place]
        return ":".join(map(str, parts + ["cl"] * self.channels_last))


# compiled last: when the budget ends early, it costs only what compiles for most of its time
PRECISIONS = ("f32", "tf32", "bf16")
TORCH = [Torch("eager", place, precision) for precision in PRECISIONS for place in ("host", "device")]
TORCH += [Torch("graphed", "device", precision, cl) for precision in PRECISIONS for cl in (False, True)]
TORCH += [Torch("compiled", "host", precision) for precision in PRECISIONS]


class Arguments(argparse.Namespace):
    """The command line as meant."""

    def steps_of(self, row):
        """The steps timed in one round, never fewer than two."""
        return max(2, round(row.steps * self.scale))

    def patience(self):
        """Seconds for the next measurement: its own limit, or what the budget has left."""
        return min(self.timeout, self.end - time.monotonic())

    def rows_chosen(self):
        wanted = self.rows.split(",") if self.rows else None
        return [row for row in ROWS if wanted is None or row.model in wanted or f"{row.model}-{row.batch}" in wanted]

    def wants(self, name):
        """A variant by its name, or by words of it: `graphed` is all of that."""
        wanted = self.variants.split(",") if self.variants else [name]
        return any(set(one.split()) <= set(name.split()) for one in wanted)

    def ours(self):
        """The commands of phalanx by the names of their variants."""
        more = dict(one.split("=", 1) for one in self.more)
        tf32 = f"{self.phalanx} --set train.precision=tf32"
        commands = {"phalanx f32": self.phalanx, "phalanx tf32": tf32} | {name: f"{self.phalanx} {added}" for name, added in more.items()}
        return {name: command for name, command in commands.items() if self.wants(name)}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of a round")
    parser.add_argument("--rows", help="of these models or rows only, as `cnn` or `mlp-128`, with commas between")
    parser.add_argument("--variants", help="of these only, by name or words of it, as `phalanx,graphed bf16`")
    parser.add_argument("--python", default=sys.executable, help="has torch for the GPU")
    parser.add_argument("--phalanx", default=PHALANX, help="command; knows {model}, {batch}, {steps}, {warmup}, {data}, {text}, {images}")
    parser.add_argument("--more", action="append", default=[], metavar="NAME=WORDS", help="another variant of phalanx, with words added")
    parser.add_argument("--images", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--text", type=lambda path: Path(path).resolve(), help="text for gpt, any UTF-8 file")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="of torch; cpu to try the sitting out")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for one measurement")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds for the whole sitting")
    parser.add_argument("--machine", default=machine.slug() + "-gpu", help="names the directory of the run")
    parser.add_argument("--out", type=Path, help="default: benches/runs/DATE-MACHINE")
    args = parser.parse_args(namespace=Arguments())
    args.images = args.images.resolve()
    if "/" in args.python:
        # not resolved: a virtual environment's python is a link that must not be followed
        args.python = os.path.abspath(args.python)
    args.end = time.monotonic() + args.budget
    for one in args.more:
        if not one.partition("=")[0].endswith(tuple(f" {precision}" for precision in PRECISIONS)) or "=" not in one:
            parser.error(f"{one}: not NAME=WORDS with a name that ends in {', '.join(PRECISIONS)}")
    if args.text is None and any(row.model == "gpt" for row in args.rows_chosen()):
        parser.error("gpt needs --text")
    return args


class Card:
    """The first GPU's memory in use, every 0.2 s and less what it was before the sitting; the same for both sides."""

    def __init__(self):
        self.read = next((read for read in (nvml(), nvidia_smi) if read and read() is not None), None)
        self.idle = self.read() if self.read else 0
        self.seen = []
        if self.read:
            threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while True:
            began = time.monotonic()
            used = self.read()
            if used is not None:
                self.seen.append((began, used))
            time.sleep(0.2)

    def peak(self, since):
        """MB of 1e6 bytes, of the readings begun since then."""
        used = [used for began, used in list(self.seen) if began >= since]
        return round((max(used) - self.idle) / 1e6, 1) if used else None


def nvml():
    """Reads bytes through the library under nvidia-smi, which takes microseconds and not a process; None without it."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        handle, memory = ctypes.c_void_p(), (ctypes.c_ulonglong * 3)()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)):
            return None
    except (OSError, AttributeError):
        return None

    def read():
        """Total, free, used."""
        return None if library.nvmlDeviceGetMemoryInfo(handle, memory) else memory[2]

    return read


def nvidia_smi(*fields):
    """Bytes in use, or other fields as text; None without the program."""
    command = ["nvidia-smi", "-i", "0", f"--query-gpu={','.join(fields) or 'memory.used'}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        return said if fields else int(said) << 20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


class Process:
    """A program whose lines of JSON come one by one."""

    def __init__(self, argv):
        self.argv, self.lines, self.errors = argv, queue.Queue(), tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=self.errors, text=True, errors="replace", cwd=REPOSITORY)
        threading.Thread(target=self.pump, daemon=True).start()

    def pump(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(line)
        self.lines.put(None)

    def next(self, patience):
        """The next line as a dictionary; RuntimeError with the last line of stderr when none comes."""
        try:
            line = self.lines.get(timeout=max(0.1, patience))
        except queue.Empty:
            raise RuntimeError(f"no figures within {patience:.0f} s") from None
        if line is None:
            code = self.process.wait()
            self.errors.seek(0)
            said = [line.strip() for line in self.errors.read().splitlines() if line.strip()]
            raise RuntimeError(f"exit code {code}: {said[-1] if said else 'no figures'}"[:300])
        return json.loads(line)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()


class Sitting:
    """What was measured so far, and the files that hold it."""

    def __init__(self, args):
        self.args, self.card, self.records = args, Card(), []
        self.out = args.out or REPOSITORY / "benches" / "runs" / f"{time.strftime('%Y-%m-%d')}-{args.machine}"
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "SETUP").write_text(setup(args))
        self.file = open(self.out / "raw.csv", "w", newline="")
        self.raw = csv.DictWriter(self.file, COLUMNS, extrasaction="ignore")
        self.raw.writeheader()

    def spent(self):
        return self.args.patience() <= 0

    def keep(self, number, row, variant, report, since):
        """Writes a measurement, or its error, down."""
        facts = {"row": row.name, "model": row.model, "batch": row.batch, "round": number, "variant": variant}
        facts |= {"steps": self.args.steps_of(row), "at": time.strftime("%Y-%m-%dT%H:%M:%S"), "card_mb": self.card.peak(since)}
        record = report | facts
        self.records.append(record)
        self.raw.writerow(record)
        self.file.flush()
        # again after each, so that an interrupted sitting leaves a table too
        (self.out / "summary.md").write_text(gpu_table.summary(self.records))
        told = report.get("error") or f"{report['samples_s_median']:,.0f} samples/s, card {record['card_mb']} MB"
        print(f"{number}/{self.args.rounds} {row.name}, {variant}: {told}", file=sys.stderr, flush=True)

    def ours(self, number):
        """phalanx, a process for each row and variant."""
        args = self.args
        for row in args.rows_chosen():
            facts = {"model": row.model, "batch": row.batch, "steps": args.steps_of(row), "warmup": row.warmup}
            facts |= {"text": args.text, "images": args.images, "data": args.text if row.model == "gpt" else args.images}
            for name, command in args.ours().items():
                if self.spent():
                    return
                since, process = time.monotonic(), None
                try:
                    process = Process([part.format(**facts) for part in shlex.split(command)])
                    report = process.next(args.patience())
                    report["samples_s_median"] + report["samples_s_calm"]
                except (OSError, RuntimeError, KeyError, ValueError) as error:
                    report = {"error": f"{type(error).__name__}: {error}"}
                self.keep(number, row, name, report, since)
                if process:
                    process.end()

    def torch(self, number):
        """PyTorch, all jobs in one process, and another for the rest after one that broke."""
        chosen = [variant for variant in TORCH if self.args.wants(variant.name)]
        ways = list(dict.fromkeys(variant.way == "compiled" for variant in chosen))
        jobs = [
            (row, variant)
            for compiled in ways
            for row in self.args.rows_chosen()
            for variant in chosen
            if (variant.way == "compiled") == compiled and variant.suits(row)
        ]
        while jobs and not self.spent():
            argv = [self.args.python, HERE / "gpu_torch.py", "--device", self.args.device, "--images", self.args.images]
            argv += ["--text", self.args.text] if self.args.text else []
            argv += [word for row, variant in jobs for word in ("--job", variant.job(row, self.args))]
            process = Process([str(word) for word in argv])
            whole = True
            while jobs and whole and not self.spent():
                (row, variant), since = jobs.pop(0), time.monotonic()
                try:
                    report = process.next(self.args.patience())
                except (RuntimeError, ValueError) as error:
                    report, whole = {"error": str(error)}, False
                self.keep(number, row, variant.name, report, since)
            process.end()


def setup(args):
    """SETUP: the machine and the GPU."""
    ask = "import torch; print(torch.version.cuda, torch.backends.cudnn.version())"
    try:
        versions = subprocess.run([args.python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        versions = "unknown"
    fields = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit", "persistence_mode")
    facts = {"gpu": nvidia_smi(*fields) or "unknown", "gpu fields": ", ".join(fields), "CUDA and cuDNN of torch": versions}
    facts["variants of phalanx"] = "; ".join(f"{name}: {command}" for name, command in args.ours().items()) or "none"
    return machine.setup(args.python, args.phalanx) + "".join(f"{name}: {value}\n" for name, value in facts.items())


def main():
    args = arguments()
    sitting = Sitting(args)
    for number in range(1, args.rounds + 1):
        sitting.ours(number)
        sitting.torch(number)
        if sitting.spent():
            print("the budget is spent", file=sys.stderr)
            break
    if not any("error" not in record for record in sitting.records):
        sys.exit("nothing could be measured")
    print(gpu_table.summary(sitting.records))


if __name__ == "__main__":
    main()
