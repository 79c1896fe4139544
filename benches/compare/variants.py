"""What the comparison runs: rows (model and batch), and the ways of training that compete on a row."""

import os
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

# glibc returns freed activations to the kernel and faults them in again at the next step; these settings
# keep them, on huge pages. They speed PyTorch up, so the yardstick has them. A user's PyTorch ("stock") has not.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "THP_MEM_ALLOC_ENABLE": "1",
}


@dataclass(frozen=True)
class Row:
    """One line of the table; the steps of a round take about three seconds on two cores."""

    model: str
    batch: int
    steps: int
    warmup: int

    @property
    def name(self):
        return f"{self.model} {self.batch}"


ROWS = [
    Row("mlp", 128, 600, 30),
    Row("mlp", 1024, 150, 10),
    Row("lenet5", 128, 250, 20),
    Row("lenet5", 1024, 50, 5),
    Row("cnn", 128, 40, 5),
    Row("cnn", 1024, 8, 2),
    Row("gpt", 128, 5, 1),
    Row("gpt", 1024, 2, 1),
]


@dataclass(frozen=True)
class Torch:
    """PyTorch: DDP over gloo when there are several processes."""

    name: str
    procs: int
    threads: int
    channels_last: bool = False
    stock: bool = False

    def suits(self, row):
        """The other models have no images, so that channels-last would time the same program twice."""
        return not self.channels_last or row.model in ("lenet5", "cnn")

    def commands(self, row, args):
        """One `(argv, environment)` a process."""
        argv = [args.python, HERE / "ddp_torch.py", "--model", row.model, "--batch", row.batch, "--steps", args.steps_of(row)]
        argv += ["--warmup", row.warmup, "--threads", self.threads, "--images", args.images]
        argv += ["--channels-last"] * self.channels_last
        argv += ["--text", args.text] if row.model == "gpt" else []
        env = base_environment(self.threads) | ({} if self.stock else ALLOCATOR)
        if self.procs == 1:
            return [(argv, env)]
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(self.procs)}
        return [(argv, env | meet | {"RANK": str(rank)}) for rank in range(self.procs)]


@dataclass(frozen=True)
class Phalanx:
    """phalanx with ranks as threads of one process."""

    name: str
    ranks: int
    more: str = ""

    def suits(self, row):
        return True

    def commands(self, row, args):
        """One `(argv, environment)`, from the template given on the command line."""
        facts = {"model": row.model, "batch": row.batch, "ranks": self.ranks, "steps": args.steps_of(row), "warmup": row.warmup}
        facts |= {"text": args.text, "images": args.images}
        facts["data"] = args.text if row.model == "gpt" else args.images
        return [([part.format(**facts) for part in shlex.split(f"{args.phalanx} {self.more}")], base_environment(1))]


VARIANTS = [
    Phalanx("phalanx 2", 2),
    Torch("ddp 2x1", 2, 1),
    Torch("ddp 2x1 cl", 2, 1, channels_last=True),
    Torch("single 1x2", 1, 2),
    Torch("single 1x2 cl", 1, 2, channels_last=True),
    Torch("stock ddp 2x1", 2, 1, stock=True),
    Torch("stock single 1x2", 1, 2, stock=True),
    Phalanx("phalanx 1", 1),
    Phalanx("phalanx 2 reproducible", 2, "--set train.reduction=reproducible"),
]


def base_environment(threads):
    """The caller's, without what would set another number of threads."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "MALLOC_"))}
    return kept | {"OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"}


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
