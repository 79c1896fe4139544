"""The first 100 training losses of each model from weights and batches given by formula -> losses.json.

Nothing random of PyTorch is used: weights and batches come from `splitmix.py`, in f64, and are rounded
to f32. Step `s` trains on batch `s`; a loss is taken before its update.

Weights. Parameter `p` in the listed order, element `i` in row-major order, is

    (2 uniform(seed, p, i) - 1) * bound        seed: the model's `weight_seed`

with the listed bound, or the listed constant.

Images, batch `s`, sample `j` of 32, row `r` and column `c` of 28:

    shown = hash(3, s, j) mod 10
    h     = hash(6, s, j)
    label = (h div 4) mod 10 if h mod 4 = 0, else shown
    pixel = 2 uniform(2, s, j * 784 + r * 28 + c) - 1, plus 1 inside the block of `shown`
    block = rows 4 + 10 (shown div 5) .. + 10, columns 4 + 4 (shown mod 5) .. + 4

so that labels can be learnt, but one in four is a lie and the loss stays away from zero, where a
relative tolerance would ask for more than f32 has.

Tokens, batch `s`, sequence `j` of 4, time `t` of 129 (the last one is a target only):

    start = hash(4, s, j) mod 64
    h     = hash(5, s, j * 129 + t)
    token = (h div 8) mod 256 if h mod 8 = 0, else 32 + (start + t * (1 + start mod 3)) mod 64

a ramp of printable characters with one byte in eight replaced.

How much of a difference is rounding. Each model trains in f64, in f32, and in f32 from weights that are
a last bit off. Where an argument of ReLU or a contest in a max-pool is decided by less than the rounding
error, the runs part and stay apart by up to 1e-2: no program can then be asked for 1e-3. The rates and
weight seeds are such that it does not happen here; `record` refuses others.
"""

import math
import time

import torch

import models
from splitmix import FORMULA, below, hashes, symmetric
from store import versions, write_json

STEPS = 100
SIDE, CONTEXT = 28, 128
PIXEL_SEED, LABEL_SEED, START_SEED, TOKEN_SEED, LIE_SEED = 2, 3, 4, 5, 6
NUDGE_SEED, NUDGES = 7, 6
SGD = {"kind": "sgd", "momentum": 0.9}
ADAMW = {"kind": "adamw", "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
PLANS = {
    "mlp": {"weight_seed": 1, "batch": 32, "optimizer": SGD | {"lr": 0.05}},
    "lenet5": {"weight_seed": 12, "batch": 32, "optimizer": SGD | {"lr": 0.01}},
    "cnn": {"weight_seed": 13, "batch": 32, "optimizer": SGD | {"lr": 0.005}},
    "gpt": {"weight_seed": 1, "batch": 4, "optimizer": ADAMW | {"lr": 1e-3}},
}


def start(kind, net):
    """How each parameter begins: `(name, shape, {"bound": ..} or {"constant": ..})` in order."""
    rules = []
    fan_in = None
    for name, param in net.named_parameters():
        shape = list(param.shape)
        if kind == "gpt" and len(shape) == 1:
            rule = {"constant": 0.0 if name.endswith("bias") else 1.0}
        elif kind == "gpt":
            # sqrt(3) makes the standard deviation of the uniform that of N(0, 0.02)
            rule = {"bound": 0.02 * math.sqrt(3) * models.residual_scale(name, len(net.blocks))}
        else:
            # a bias follows its weight and has the same bound
            fan_in = math.prod(shape[1:]) if len(shape) > 1 else fan_in
            rule = {"bound": 1 / math.sqrt(fan_in)}
        rules.append({"name": name, "shape": shape, **rule})
    return rules


def initialise(net, rules, seed, nudge=None):
    """Fills the parameters by the rules, rounded to f32; a nudge moves them by up to one last bit."""
    with torch.no_grad():
        for p, (param, rule) in enumerate(zip(net.parameters(), rules)):
            if "constant" in rule:
                param.fill_(rule["constant"])
            else:
                param.copy_(symmetric(seed, p, param.shape, rule["bound"]).float())
            if nudge is not None:
                param.mul_(1 + symmetric(NUDGE_SEED, 1000 * nudge + p, param.shape, torch.finfo(torch.float32).eps))


def images(s, batch):
    """Batch `s`: noise with a brighter block that shows the label, unless the label lies."""
    x = symmetric(PIXEL_SEED, s, (batch, 1, SIDE, SIDE))
    shown = below(LABEL_SEED, s, (batch,), 10)
    for j, digit in enumerate(shown.tolist()):
        row, column = 4 + 10 * (digit // 5), 4 + 4 * (digit % 5)
        x[j, 0, row : row + 10, column : column + 4] += 1
    h = hashes(LIE_SEED, s, batch)
    lie = torch.from_numpy((h // 4 % 10).astype("int64"))
    return x.float(), torch.where(torch.from_numpy(h % 4 == 0), lie, shown)


def tokens(s, batch):
    """Batch `s`: inputs and the same shifted by one."""
    starts = below(START_SEED, s, (batch, 1), 64)
    time_t = torch.arange(CONTEXT + 1)
    ramp = 32 + (starts + time_t * (1 + starts % 3)) % 64
    h = hashes(TOKEN_SEED, s, batch * (CONTEXT + 1))
    swap = torch.from_numpy(h % 8 == 0).view(batch, -1)
    noise = torch.from_numpy((h // 8 % 256).astype("int64")).view(batch, -1)
    text = torch.where(swap, noise, ramp)
    return text[:, :-1], text[:, 1:]


def optimizer(net, plan):
    """PyTorch's optimizer over all parameters in one group."""
    options = {key: value for key, value in plan.items() if key != "kind"}
    return {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[plan["kind"]](net.parameters(), **options)


def train(kind, plan, dtype, nudge=None):
    """The losses before each of the steps, and the first gradient's norm by parameter."""
    net = models.build(kind)
    initialise(net, start(kind, net), plan["weight_seed"], nudge)
    net.to(dtype)
    opt = optimizer(net, plan["optimizer"])
    draw = tokens if kind == "gpt" else images
    losses, first_norms = [], None
    for step in range(STEPS):
        x, target = draw(step, plan["batch"])
        opt.zero_grad()
        value = models.loss(net, x.to(dtype) if x.is_floating_point() else x, target)
        value.backward()
        first_norms = first_norms or {n: p.grad.norm().item() for n, p in net.named_parameters()}
        opt.step()
        losses.append(value.item())
    return losses, first_norms


def distance(losses, others):
    """The largest relative difference of two curves."""
    return max(abs(a - b) / b for a, b in zip(losses, others))


def record(kind, plan):
    """The curves of one model, and how far rounding moves them."""
    began = time.perf_counter()
    double, norms = train(kind, plan, torch.float64)
    single, _ = train(kind, plan, torch.float32)
    nudged = [distance(train(kind, plan, torch.float32, k)[0], double) for k in range(NUDGES)]
    apart = distance(single, double)
    print(f"{kind}: {double[0]:.4f} -> {double[-1]:.4f}; f32 {apart:.1e}, nudged {max(nudged):.1e} from f64; "
          f"{time.perf_counter() - began:.0f} s")
    assert max(apart, *nudged) < 1e-4, f"{kind}: rounding moves a loss too far for a tolerance of 1e-3: {nudged}"
    assert double[-1] < 0.7 * double[0], f"{kind} does not learn"
    rules = start(kind, models.build(kind))
    return plan | {
        "parameters": [rule | {"first_grad_norm": norms[rule["name"]]} for rule in rules],
        "f32_from_f64": apart,
        "nudged_f32_from_f64": nudged,
        "losses_f32": single,
        "losses_f64": double,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    head = {
        "computed_with": versions(),
        "formulas": FORMULA | {"weights and batches": "the head of losses.py"},
        "steps": STEPS,
    }
    write_json("losses.json", head | {"models": {k: record(k, plan) for k, plan in PLANS.items()}}, depth=4)
