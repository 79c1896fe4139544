"""The price of per-sample statistics beside Opacus' ghost norms and BackPACK, as a share of each library's plain step.

    benches/compare/install_peers.sh target/peers
    target/peers/bin/pip install scipy packaging opt_einsum einops
    target/peers/bin/pip install --no-deps opacus==1.6.0 backpack-for-pytorch==1.7.1 unfoldNd einconv
    target/peers/bin/python benches/compare/sample_statistics.py

Ours are those of `cargo bench --bench statistics -- --json`; theirs are measured here, one thread each, in turns with
the plain step. Before a peer is timed, its norms are compared with the gradients of single samples: where they differ,
or where it raises, the table says so and gives no price.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "reference"))
import models  # noqa: E402  the same four models that the losses are checked against

SECONDS = 2.0


class Loss(nn.Module):
    """The mean cross entropy over all positions, as a module: BackPACK wants one."""

    def __init__(self):
        super().__init__()
        self.entropy = nn.CrossEntropyLoss()

    def forward(self, logits, target):
        return self.entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))


def batch_of(kind, size):
    """Made-up samples."""
    generator = torch.Generator().manual_seed(1)
    if kind == "gpt":
        return tuple(torch.randint(256, (size, 128), generator=generator) for _ in range(2))
    x = torch.rand(size, 1, 28, 28, generator=generator) - 0.5
    return x, torch.randint(10, (size,), generator=generator)


def explicit(kind, x, y):
    """The squared norm of each sample's gradient, by a backward pass for each."""
    model, norms = build(kind), []
    for i in range(len(x)):
        model.zero_grad()
        Loss()(model(x[i : i + 1]), y[i : i + 1]).backward()
        norms.append(sum(p.grad.double().square().sum().item() for p in model.parameters()))
    return torch.tensor(norms)


def build(kind):
    """The model with the same weights every time."""
    torch.manual_seed(7)
    return models.build(kind)


class Plain:
    """Forward, backward, update."""

    name = "plain"

    def __init__(self, kind):
        self.model, self.loss = build(kind), Loss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)

    def step(self, x, y):
        self.optimizer.zero_grad()
        self.loss(self.model(x), y).backward()
        self.optimizer.step()


class OpacusGhost(Plain):
    """Opacus' ghost norms: the first of its two backward passes, all that norms need."""

    name = "Opacus ghost norms"

    def __init__(self, kind):
        from opacus.grad_sample import GradSampleModuleFastGradientClipping

        super().__init__(kind)
        self.model = GradSampleModuleFastGradientClipping(
            self.model, batch_first=True, loss_reduction="mean", max_grad_norm=1.0, use_ghost_clipping=True
        )

    def norms(self):
        return self.model.get_norm_sample().double().square()


class BackpackNorms(Plain):
    """BackPACK's BatchL2Grad."""

    name = "BackPACK BatchL2Grad"

    def __init__(self, kind):
        from backpack import backpack, extend
        from backpack.extensions import BatchL2Grad

        super().__init__(kind)
        self.measured = lambda: backpack(BatchL2Grad())
        self.model = extend(self.model)
        self.loss.entropy = extend(self.loss.entropy)

    def step(self, x, y):
        self.optimizer.zero_grad()
        self.batch = len(x)
        with self.measured():
            self.loss(self.model(x), y).backward()
        self.optimizer.step()

    def norms(self):
        # of what a sample adds to the mean
        return self.batch**2 * sum(p.batch_l2.double() for p in self.model.parameters())


PEERS = (OpacusGhost, BackpackNorms)


def refusal(peer, kind):
    """Why a peer cannot be timed on a model, or None."""
    x, y = batch_of(kind, 4)
    try:
        trained = peer(kind)
        trained.step(x, y)
        norms = trained.norms()
    except Exception as error:  # whatever a library does to refuse
        return f"raises {type(error).__name__}"
    off = ((norms - explicit(kind, x, y)).abs() / explicit(kind, x, y)).max().item()
    return None if off < 1e-3 else f"wrong by {off:.0%}"


def timed(steppers, x, y, rounds):
    """Median seconds of a step, one list a stepper, an entry a round."""
    for stepper in steppers:
        stepper.step(x, y)
    began = time.perf_counter()
    steppers[0].step(x, y)
    count = max(1, round(SECONDS / rounds / (time.perf_counter() - began)))
    seconds = [[] for _ in steppers]
    for _ in range(rounds):
        for stepper, into in zip(steppers, seconds):
            steps = []
            for _ in range(count):
                began = time.perf_counter()
                stepper.step(x, y)
                steps.append(time.perf_counter() - began)
            into.append(statistics.median(steps))
    return seconds


def ours(args):
    """The lines of our own bench, by model."""
    command = ["cargo", "bench", "-q", "-p", "phalanx-benches", "--bench", "statistics", "--", "--json"]
    command += ["--batch", str(args.batch), "--models", args.models, "--rounds", str(args.rounds)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {row["model"]: row for row in map(json.loads, filter(lambda line: line.startswith("{"), lines))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="mlp,lenet5,cnn,gpt")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    own = ours(args)
    print(f"batch {args.batch}, one thread; ms a step, and what the statistic adds to it\n")
    print("| model | way | step | norms | with inner products |")
    print("|---|---|---|---|---|")
    for kind in args.models.split(","):
        row = own[kind]
        print(f"| {kind} | phalanx | {1e3 * row['plain_s']:.2f} | {row['norms']:.0%} | {row['norms+products']:.0%} |")
        x, y = batch_of(kind, args.batch)
        for peer in PEERS:
            why = refusal(peer, kind)
            if why:
                print(f"| {kind} | {peer.name} | | {why} | |")
                continue
            plain, measured = timed([Plain(kind), peer(kind)], x, y, args.rounds)
            price = statistics.median(with_ / without - 1 for with_, without in zip(measured, plain))
            print(f"| {kind} | {peer.name} | {1e3 * statistics.median(plain):.2f} | {price:.0%} | not offered |", flush=True)


if __name__ == "__main__":
    main()
