"""Trajectories of torch.optim, clipping and schedules, f64 -> optim.json.

Five weights start at `-1, -0.5, 0, 0.5, 1`. The gradient at step `t` (from 0) of element `i` is

    ((7 t + 3 i) mod 11 - 5) / 4

whatever the weights: exact in binary, of both signs, and sometimes zero. A trajectory lists the
weights after each of ten steps.

`weight_decay` is what PyTorch calls so: added to the gradient by SGD and Adagrad, decoupled in AdamW.
`decoupled_weight_decay` is not in PyTorch's SGD and Adagrad; there, as in its AdamW, the weights
shrink by `1 - lr * decay` before the step of the optimizer without decay.
"""

import math

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from store import versions, write_json

STEPS, DIM = 10, 5
TRAJECTORIES = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd_momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "sgd_nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "sgd_dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    "sgd_coupled_decay": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}),
    "sgd_nesterov_coupled_decay": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.2}),
    "sgd_decoupled_decay": ("SGD", {"lr": 0.1, "decoupled_weight_decay": 0.2}),
    "sgd_momentum_decoupled_decay": ("SGD", {"lr": 0.1, "momentum": 0.9, "decoupled_weight_decay": 0.2}),
    "adamw": ("AdamW", {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}),
    "adamw_decay": ("AdamW", {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.2}),
    "adamw_large_eps": ("AdamW", {"lr": 0.1, "betas": (0.9, 0.95), "eps": 0.5, "weight_decay": 0.2}),
    "adagrad": ("Adagrad", {"lr": 0.1, "eps": 1e-10, "initial_accumulator_value": 0.0}),
    "adagrad_start": ("Adagrad", {"lr": 0.1, "eps": 1e-10, "initial_accumulator_value": 0.5}),
    "adagrad_coupled_decay": ("Adagrad", {"lr": 0.1, "eps": 1e-10, "weight_decay": 0.2}),
    "adagrad_decoupled_decay": ("Adagrad", {"lr": 0.1, "eps": 1e-10, "decoupled_weight_decay": 0.2}),
}


def gradient(step):
    """The gradient of one step."""
    return torch.tensor([((7 * step + 3 * i) % 11 - 5) / 4 for i in range(DIM)], dtype=torch.float64)


def trajectory(kind, options):
    """The weights after each step."""
    weights = (torch.arange(DIM, dtype=torch.float64) - 2) / 2
    weights.requires_grad_()
    given = dict(options)
    decay = given.pop("decoupled_weight_decay", 0.0)
    opt = getattr(torch.optim, kind)([weights], **given)
    after = []
    for step in range(STEPS):
        with torch.no_grad():
            weights.mul_(1 - given["lr"] * decay)
        weights.grad = gradient(step)
        opt.step()
        after.append(weights.tolist())
    return {"optimizer": kind, "options": options, "weights": after}


def clipping(limit):
    """Two parameters with gradients `(3, -4, 0)` and `(12)`: norm 13, clipped to `limit`."""
    params = [torch.zeros(3).double(), torch.zeros(1).double()]
    params[0].grad, params[1].grad = torch.tensor([3.0, -4.0, 0.0]).double(), torch.tensor([12.0]).double()
    norm = torch.nn.utils.clip_grad_norm_(params, limit).item()
    return {"max_norm": limit, "norm": norm, "before": [[3, -4, 0], [12]], "after": [p.grad.tolist() for p in params]}


def constant(position, total, warmup):
    """`s / w` while `s < w`, then 1."""
    return position / warmup if position < warmup else 1.0


def linear(position, total, warmup):
    """`s / w` while `s < w`, then `(T - s) / (T - w)`."""
    return position / warmup if position < warmup else (total - position) / (total - warmup)


def cosine(position, total, warmup):
    """`s / w` while `s < w`, then `(1 + cos(pi (s - w) / (T - w))) / 2`."""
    if position < warmup:
        return position / warmup
    return (1 + math.cos(math.pi * (position - warmup) / (total - warmup))) / 2


def schedule(factor, total, warmup):
    """The factor of the learning rate at each position."""
    factors = [factor(s, total, warmup) for s in range(total + 1)]
    return {"formula": factor.__doc__, "total": total, "warmup": warmup, "factors": factors}


def check_schedules(total=12):
    """Without warm-up the formulas are those of torch.optim.lr_scheduler."""
    for factor, theirs in (
        (linear, lambda opt: LinearLR(opt, start_factor=1.0, end_factor=0.0, total_iters=total)),
        (cosine, lambda opt: CosineAnnealingLR(opt, T_max=total)),
    ):
        opt = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        sched = theirs(opt)
        for s in range(total + 1):
            assert abs(sched.get_last_lr()[0] - factor(s, total, 0)) < 1e-12, (factor.__name__, s)
            opt.step()
            sched.step()


if __name__ == "__main__":
    check_schedules()
    found = {
        "computed_with": versions(),
        "start": [(i - 2) / 2 for i in range(DIM)],
        "gradients": [gradient(step).tolist() for step in range(STEPS)],
        "trajectories": {name: trajectory(*what) for name, what in TRAJECTORIES.items()},
        "clip_grad_norm": [clipping(6.5), clipping(20.0)],
        # s is the position, w the warm-up and T the whole, all in the same unit
        "schedules": {
            f.__name__ + suffix: schedule(f, 12, w)
            for f in (constant, linear, cosine)
            for suffix, w in (("", 0), ("_warmup", 4))
        },
    }
    write_json("optim.json", found)
