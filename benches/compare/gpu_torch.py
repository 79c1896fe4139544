"""Times PyTorch's training step on one GPU; several jobs share one process, one JSON line each.

    python3 gpu_torch.py --model cnn --batch 1024 --way graphed --precision bf16 --data device
    python3 gpu_torch.py --job mlp:128:3000:20:eager:f32:host --job cnn:128:1500:20:graphed:bf16:device:cl

f32 is f32: TF32 is off for products and convolutions, and on for tf32. bf16 is autocast over f32 weights. The fields:

    samples_s_median   batch / median step; a step is a block of ten over ten, the device waited for around it
    samples_s_calm     batch / mean step of the quickest half second of consecutive blocks
    first_step_s       until the first step is done: compilation, or the graph's warm-up and capture, included
    allocated_mb       peak of torch's tensors on the device, in MB of 1e6 bytes
    reserved_mb        peak of what torch's allocator took for them
    error              the first lines of what went wrong, and then no figures

A step is the batch's assembly, forward, backward and the optimizer; no loss is read back while the clock runs.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ddp_torch import CONTEXT, FASHION, MEAN, STD, Images, Text, calm, models, orders

WAYS = ("eager", "compiled", "graphed")
PRECISIONS = ("f32", "tf32", "bf16")
PLACES = ("host", "device")
# steps before a capture, on its side stream: lazily made state must be there
GRAPH_WARMUP = 3
# places drawn at a time from a data set with more samples than that
DRAWN = 1 << 16


@dataclass(frozen=True)
class Job:
    """One thing to time."""

    model: str
    batch: int
    steps: int
    warmup: int
    way: str = "eager"
    precision: str = "f32"
    data: str = "host"
    channels_last: bool = False


def job(text):
    """MODEL:BATCH:STEPS:WARMUP:WAY:PRECISION:DATA, with `:cl` behind it for channels-last."""
    parts = text.split(":")
    channels_last = parts[7:] == ["cl"]
    if len(parts) != 7 + channels_last:
        raise argparse.ArgumentTypeError(f"{text}: not {job.__doc__.split(',')[0]}")
    model, way, precision, place = parts[0], *parts[4:7]
    for word, known in ((model, models.MODELS), (way, WAYS), (precision, PRECISIONS), (place, PLACES)):
        if word not in known:
            raise argparse.ArgumentTypeError(f"{text}: {word} is none of {', '.join(known)}")
    return Job(model, *map(int, parts[1:4]), way, precision, place, channels_last)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", type=job, action="append", dest="jobs", metavar="JOB", help=job.__doc__)
    parser.add_argument("--model", choices=models.MODELS, help="a single job instead")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=100, help="steps that are timed")
    parser.add_argument("--warmup", type=int, default=20, help="steps before them, after the first")
    parser.add_argument("--way", choices=WAYS, default="eager")
    parser.add_argument("--precision", choices=PRECISIONS, default="f32")
    parser.add_argument("--data", choices=PLACES, default="host", help="where the data set lies")
    parser.add_argument("--channels-last", action="store_true", help="of the single job")
    parser.add_argument("--block", type=int, default=10, help="steps between two waits for the device")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--images", type=Path, default=FASHION, help="directory of the gzipped IDX files")
    parser.add_argument("--text", type=Path, help="training text of the language model")
    args = parser.parse_args()
    if bool(args.jobs) == bool(args.model):
        parser.error("either --job or --model")
    if args.model:
        single = Job(args.model, args.batch, args.steps, args.warmup, args.way, args.precision, args.data, args.channels_last)
        args.jobs = [single]
    if args.text is None and any(one.model == "gpt" for one in args.jobs):
        parser.error("gpt needs --text")
    return args


class Feed:
    """A data set's batches: `raw` brings one to the device, `inputs` makes it there what the model takes."""

    def __init__(self, data, one, device):
        self.device, self.batch, self.resident = device, one.batch, one.data == "device"
        place = device if self.resident else "cpu"
        facts = data.samples, one.batch
        self.rows = device_orders(*facts, device) if self.resident else orders(*facts, 0, 1)
        self.load(data, place)

    def raw(self):
        """The next rows where the data set lies on the device, else their bytes on their way there."""
        rows = next(self.rows)
        return (rows,) if self.resident else self.pick(rows)

    def gathered(self, table, index):
        """Rows of a table in host memory, gathered into pinned memory and copied from it without waiting."""
        shape = (len(index), *table.shape[1:])
        pinned = torch.empty(shape, dtype=table.dtype, pin_memory=self.device.type == "cuda")
        return torch.index_select(table, 0, index, out=pinned).to(self.device, non_blocking=True)


class ImageFeed(Feed):
    """Pixels as bytes, scaled on the device."""

    def load(self, data, place):
        self.x, self.y, self.format = data.x.to(place), data.y.to(place), data.format

    def pick(self, rows):
        return self.gathered(self.x, rows), self.gathered(self.y, rows)

    def inputs(self, *raw):
        pixels, target = (table.index_select(0, raw[0]) for table in (self.x, self.y)) if self.resident else raw
        x = pixels.float().mul_(1 / (255 * STD)).add_(-MEAN / STD)
        return x.view(-1, 1, 28, 28).contiguous(memory_format=self.format), target


class TextFeed(Feed):
    """Windows of bytes; the target is the next byte."""

    def load(self, data, place):
        self.text, self.offsets = data.text.to(place), data.offsets.to(place)

    def pick(self, rows):
        return (self.gathered(self.text, (rows[:, None] + self.offsets).flatten()),)

    def inputs(self, *raw):
        window = self.text[raw[0][:, None] + self.offsets] if self.resident else raw[0].view(-1, CONTEXT + 1)
        window = window.long()
        return window[:, :-1].contiguous(), window[:, 1:].contiguous()


def device_orders(samples, batch, device):
    """One shuffled order after another, made on the device; of a long text random places, not an order of millions."""
    generator = torch.Generator(device).manual_seed(1)
    while True:
        if samples > DRAWN:
            order = torch.randint(samples, (DRAWN,), generator=generator, device=device)
        else:
            order = torch.randperm(samples, generator=generator, device=device)
        yield from order[: len(order) // batch * batch].split(batch)


def optimizer_of(one, parameters):
    """The run file's optimizer in one kernel; a captured AdamW keeps its step count on the device."""
    if one.model == "gpt":
        graphed = one.way == "graphed"
        return torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True, capturable=graphed)
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, fused=True)


def trainer(one, feed, device):
    """One step on a raw batch; returns the loss, on the device."""
    net = models.build(one.model).to(device)
    if one.channels_last:
        net = net.to(memory_format=torch.channels_last)
    optimizer = optimizer_of(one, net.parameters())

    def forward(x, target):
        return models.loss(net, x, target)

    compiled = one.way == "compiled"
    if compiled:
        forward = torch.compile(forward, mode="reduce-overhead")

    def train(*raw):
        optimizer.zero_grad(set_to_none=True)
        if compiled:
            torch.compiler.cudagraph_mark_step_begin()
        x, target = feed.inputs(*raw)
        # casts that are kept must not outlive a capture; no weight is cast twice in a step anyway
        half = {"enabled": one.precision == "bf16", "cache_enabled": one.way != "graphed"}
        with torch.autocast(device.type, dtype=torch.bfloat16, **half):
            loss = forward(x, target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return train, optimizer


def captured(feed, train, optimizer):
    """Warm-up on a side stream, then the whole step as one graph over static tensors; a step that replays it, the first loss."""
    static = [part.clone() for part in feed.raw()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        losses = [train(*static) for _ in range(GRAPH_WARMUP)]
    torch.cuda.current_stream().wait_stream(side)
    first = losses[0].item()

    # gradients that are made during the capture lie in the graph's own memory
    optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = train(*static)

    def step():
        for part, fresh in zip(static, feed.raw()):
            part.copy_(fresh, non_blocking=True)
        graph.replay()
        return loss

    step()
    return step, first


def wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(one, data, args):
    """The figures of a job."""
    device = torch.device(args.device)
    if one.way == "graphed" and device.type != "cuda":
        raise RuntimeError("graphed needs a GPU")
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = one.precision == "tf32"
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    feed = (TextFeed if one.model == "gpt" else ImageFeed)(data, one, device)
    train, optimizer = trainer(one, feed, device)
    wait_for(device)

    began = time.perf_counter()
    if one.way == "graphed":
        step, first_loss = captured(feed, train, optimizer)
    else:
        def step():
            return train(*feed.raw())

        first_loss = step().item()
    wait_for(device)
    first_step = time.perf_counter() - began

    for _ in range(one.warmup):
        step()
    block = min(args.block, one.steps)
    blocks = []
    for _ in range(one.steps // block):
        wait_for(device)
        began = time.perf_counter()
        for _ in range(block):
            loss = step()
        wait_for(device)
        blocks.append(time.perf_counter() - began)

    figures = {
        "samples_s_median": one.batch * block / statistics.median(blocks),
        "samples_s_calm": one.batch * block / calm(blocks),
        "step_ms_median": 1e3 * statistics.median(blocks) / block,
        "first_step_s": first_step,
        "first_loss": first_loss,
        "last_loss": loss.item(),
    }
    if device.type == "cuda":
        figures["allocated_mb"] = torch.cuda.max_memory_allocated() / 1e6
        figures["reserved_mb"] = torch.cuda.max_memory_reserved() / 1e6
        figures["device"] = torch.cuda.get_device_name()
        figures["tf32"] = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    return figures


def attempt(one, data, args):
    """The figures of a job, or its error."""
    try:
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in timed(one, data, args).items()}
    except Exception as error:  # noqa: BLE001  whatever it is, the other jobs go on
        # the first lines say what; those below, of CUDA and torch.compile, how to debug it
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return {"error": f"{type(error).__name__}: {' '.join(lines[:2])}"[:300]}


def clear(args):
    """What a job leaves behind: compiled code, its graphs, cached memory."""
    if any(one.way == "compiled" for one in args.jobs):
        torch.compiler.reset()
    gc.collect()
    if args.device == "cuda":
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def main():
    args = arguments()
    torch.backends.cudnn.benchmark = True
    data = {}
    for one in args.jobs:
        key = (one.model == "gpt", one.channels_last)
        if key not in data:
            data[key] = Text(args.text) if one.model == "gpt" else Images(args.images, one.channels_last)
        report = vars(one) | {"torch": torch.__version__} | attempt(one, data[key], args)
        broken = None
        try:
            # before the line, so that whoever samples the card's memory sees one job's at a time
            clear(args)
        except Exception as error:  # noqa: BLE001  a device that is lost fails here too
            broken = error
        print(json.dumps(report), flush=True)
        if broken:
            sys.exit(f"the device is unusable: {broken}")


if __name__ == "__main__":
    main()
