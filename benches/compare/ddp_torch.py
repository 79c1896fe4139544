"""Times PyTorch's training step: one process, or one rank of DistributedDataParallel over gloo.

Reads RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun sets them; without them it is one
process. Rank 0 prints one JSON line:

    samples_s_median   global batch / median step
    samples_s_calm     global batch / mean step of the quickest half second of consecutive steps
    peak_rss_mb        a process: its peak resident memory in MB of 1e6 bytes
    first_step_s       the first step, with whatever is made lazily
    data_mb            what each process holds of the data set

A step is the batch's assembly, forward, backward with DDP's all-reduce, and the optimizer, timed on
rank 0 by the wall clock; the loss is not read back, as in a loop that does not log.
"""

import argparse
import gzip
import json
import os
import statistics
import struct
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "reference"))
import models  # noqa: E402  the same four models that the losses are checked against

FASHION = Path("/usr/share/datasets/fashion-mnist")
MEAN, STD = 0.2860, 0.3530
CONTEXT = 128
CALM_SECONDS = 0.5


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.MODELS, required=True)
    parser.add_argument("--batch", type=int, required=True, help="global batch, in samples")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--steps", type=int, default=50, help="steps that are timed")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them, after the first")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--images", type=Path, default=FASHION, help="directory of the gzipped IDX files")
    parser.add_argument("--text", type=Path, help="training text of the language model")
    args = parser.parse_args()
    if args.model == "gpt" and args.text is None:
        parser.error("gpt needs --text")
    return args


def read_idx(path):
    """A gzipped IDX file of bytes."""
    with gzip.open(path, "rb") as file:
        _, kind, dims = struct.unpack(">HBB", file.read(4))
        assert kind == 8, f"{path}: not bytes"
        shape = struct.unpack(f">{dims}I", file.read(4 * dims))
        return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).reshape(shape)


class Images:
    """Fashion-MNIST as bytes; gathering rows and then scaling them takes no longer than `floats[rows]`."""

    def __init__(self, directory, channels_last):
        self.x = read_idx(directory / "train-images-idx3-ubyte.gz").flatten(1)
        self.y = read_idx(directory / "train-labels-idx1-ubyte.gz").long()
        self.bytes = self.x.nbytes + self.y.nbytes
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.samples = len(self.y)

    def batch(self, rows):
        x = self.x.index_select(0, rows).float().mul_(1 / (255 * STD)).add_(-MEAN / STD)
        return x.view(-1, 1, 28, 28).contiguous(memory_format=self.format), self.y[rows]


class Text:
    """Windows of a text, byte by byte; the target is the next byte."""

    def __init__(self, path):
        self.text = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        self.bytes = self.text.nbytes
        self.offsets = torch.arange(CONTEXT + 1)
        self.samples = len(self.text) - CONTEXT

    def batch(self, rows):
        window = self.text[rows[:, None] + self.offsets].long()
        return window[:, :-1], window[:, 1:]


def orders(samples, batch, rank, world):
    """Each rank's share of one shuffled order after another, the same on all ranks."""
    generator = torch.Generator().manual_seed(1)
    share = batch // world
    while True:
        order = torch.randperm(samples, generator=generator)
        for start in range(0, samples - batch + 1, batch):
            yield order[start + rank * share : start + (rank + 1) * share]


def calm(seconds):
    """The mean step of the quickest half second of consecutive steps, or of all if there are too few."""
    width = max(1, round(CALM_SECONDS / statistics.median(seconds)))
    if width >= len(seconds):
        return statistics.fmean(seconds)
    return min(statistics.fmean(seconds[k : k + width]) for k in range(len(seconds) - width + 1))


def peak_rss_mb():
    """VmHWM and not getrusage: the latter starts at the parent's peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmHWM in /proc/self/status")


def gather(value, world):
    """A number of each rank, on all of them."""
    if world == 1:
        return [value]
    parts = [torch.zeros(1, dtype=torch.float64) for _ in range(world)]
    dist.all_gather(parts, torch.tensor([value], dtype=torch.float64))
    return [part.item() for part in parts]


def main():
    args = arguments()
    after_import = peak_rss_mb()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if args.batch % world:
        sys.exit(f"a batch of {args.batch} does not divide among {world} processes")
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    if world > 1:
        dist.init_process_group("gloo")

    data = Text(args.text) if args.model == "gpt" else Images(args.images, args.channels_last)
    rows = orders(data.samples, args.batch, rank, world)
    net = models.build(args.model)
    if args.channels_last:
        net = net.to(memory_format=torch.channels_last)
    model = DistributedDataParallel(net) if world > 1 else net
    if args.model == "gpt":
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

    def step():
        began = time.perf_counter()
        x, target = data.batch(next(rows))
        optimizer.zero_grad(set_to_none=True)
        loss = models.loss(model, x, target)
        loss.backward()
        optimizer.step()
        return time.perf_counter() - began, loss.detach()

    if world > 1:
        dist.barrier()
    first, loss_before = step()
    for _ in range(args.warmup):
        step()
    timed = [step() for _ in range(args.steps)]
    seconds = [took for took, _ in timed]

    peaks = gather(peak_rss_mb(), world)
    if rank == 0:
        report = {
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in net.parameters()),
            "samples_s_median": args.batch / statistics.median(seconds),
            "samples_s_calm": args.batch / calm(seconds),
            "first_step_s": first,
            "peak_rss_mb": peaks,
            "import_rss_mb": after_import,
            "data_mb": data.bytes / 1e6,
            "first_loss": loss_before.item(),
            "last_loss": timed[-1][1].item(),
        }
        print(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in report.items()}), flush=True)
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
