"""Forward values and gradients of every operator, in f64 -> ops.safetensors, ops.json.

A case `c` of operator `op` with named inputs is stored as

    c/in/NAME    an input (f64; i64 for indices and labels)
    c/out        op(inputs)
    c/dy         the gradient that arrives at `out`
    c/grad/NAME  the gradient that leaves at input NAME: d <dy, out> / d NAME
    c/state/NAME batch norm's running statistics afterwards (before: mean 0 and variance 1 in training;
                 in evaluation they do not change)

and `ops.json` lists for each case its operator, its parameters (stride, axis, ...), inputs and state.
Inputs come from `splitmix.py` with the seed of the case, so that a new case moves no old number.
"""

import torch
import torch.nn.functional as F

import models
from splitmix import below, symmetric
from store import versions, write_json, write_tensors

tensors = {}
cases = {}


def real(*shape, low=-2.0, high=2.0):
    """Declares a differentiable input, uniform in [low, high)."""
    return lambda seed, stream: symmetric(seed, stream, shape) * ((high - low) / 2) + (high + low) / 2


def index(*shape, bound):
    """Declares an integer input in [0, bound)."""
    return lambda seed, stream: below(seed, stream, shape, bound)


def case(name, op, run, inputs, state=None, **params):
    """Evaluates `run(**inputs, **state)` and its gradients, and records all of it."""
    assert name not in cases, name
    seed = 1 + sum(ord(c) * 31**k for k, c in enumerate(name)) % 1_000_003
    given = {key: draw(seed, stream) for stream, (key, draw) in enumerate(inputs.items())}
    for value in given.values():
        value.requires_grad_(value.is_floating_point())
    running = state or {}
    out = run(**given, **running)
    dy = symmetric(seed, 1000, out.shape)
    wanted = [key for key, value in given.items() if value.requires_grad]
    grads = torch.autograd.grad(out, [given[key] for key in wanted], dy)

    tensors.update({f"{name}/in/{key}": value for key, value in given.items()})
    tensors.update({f"{name}/grad/{key}": grad for key, grad in zip(wanted, grads)})
    tensors.update({f"{name}/state/{key}": value for key, value in running.items()})
    tensors.update({f"{name}/out": out, f"{name}/dy": dy})
    cases[name] = {"op": op, "params": params, "inputs": list(given), "state": list(running)}


def products():
    """Linear layers and matrix products; weights are `[out, in]` as in the state_dict."""
    weights = {"weight": real(5, 3), "bias": real(5)}
    linear = lambda x, weight, bias=None: F.linear(x, weight, bias)
    case("linear_2d", "linear", linear, {"x": real(4, 3), **weights})
    case("linear_sequence", "linear", linear, {"x": real(2, 4, 3), **weights})
    case("linear_no_bias", "linear", linear, {"x": real(4, 3), "weight": real(5, 3)})
    case("matmul_2d", "matmul", torch.matmul, {"input": real(3, 4), "other": real(4, 2)})
    case("matmul_batched", "matmul", torch.matmul, {"input": real(2, 3, 4), "other": real(2, 4, 5)})


def convolutions():
    """Images are NCHW, weights `[out, in / groups, height, width]`."""

    def conv(name, x, weight, bias=True, stride=(1, 1), padding=(0, 0), groups=1):
        inputs = {"x": real(*x), "weight": real(*weight)} | ({"bias": real(weight[0])} if bias else {})
        params = {"stride": stride, "padding": padding, "groups": groups}
        run = lambda x, weight, bias=None: F.conv2d(x, weight, bias, **params)
        case(f"conv2d_{name}", "conv2d", run, inputs, **params)

    conv("3x3", (2, 3, 6, 5), (4, 3, 3, 3))
    conv("1x1_no_bias", (2, 3, 4, 4), (5, 3, 1, 1), bias=False)
    conv("padding1", (2, 2, 5, 5), (3, 2, 3, 3), padding=(1, 1))
    conv("5x5_padding2", (2, 1, 6, 6), (2, 1, 5, 5), padding=(2, 2))
    conv("stride2", (2, 2, 7, 7), (3, 2, 3, 3), stride=(2, 2))
    conv("stride2_padding1", (2, 2, 6, 6), (3, 2, 3, 3), stride=(2, 2), padding=(1, 1))
    conv("groups2", (2, 4, 5, 5), (6, 2, 3, 3), groups=2)
    conv("groups2_stride2_padding1", (2, 4, 5, 6), (4, 2, 3, 3), stride=(2, 2), padding=(1, 1), groups=2)
    conv("depthwise", (2, 3, 5, 5), (3, 1, 3, 3), padding=(1, 1), groups=3)
    conv("depthwise_twice", (2, 3, 5, 5), (6, 1, 3, 3), groups=3)
    conv("rectangular", (2, 2, 6, 7), (3, 2, 2, 3), stride=(2, 1), padding=(0, 1))


def pools():
    """Padding never wins a maximum; an average counts it (PyTorch's default) unless told otherwise."""

    def pool(name, op, run, x, kernel, stride, padding, **more):
        params = {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": (padding, padding)} | more
        case(name, op, lambda x: run(x, kernel, stride, padding, **more), {"x": real(*x)}, **params)

    pool("max_pool2d_2x2", "max_pool2d", F.max_pool2d, (2, 3, 6, 4), 2, 2, 0)
    pool("max_pool2d_2x2_odd", "max_pool2d", F.max_pool2d, (1, 2, 5, 7), 2, 2, 0)
    pool("max_pool2d_3x3_stride2_padding1", "max_pool2d", F.max_pool2d, (2, 2, 7, 6), 3, 2, 1)
    pool("avg_pool2d_2x2", "avg_pool2d", F.avg_pool2d, (2, 3, 6, 4), 2, 2, 0)
    pool("avg_pool2d_3x3_stride2", "avg_pool2d", F.avg_pool2d, (2, 2, 7, 7), 3, 2, 0)
    for counts, word in ((True, "counted"), (False, "left_out")):
        name = f"avg_pool2d_3x3_stride2_padding1_{word}"
        x = (2, 2, 7, 6)
        run = lambda x, k, s, p, count_include_pad: F.avg_pool2d(x, k, s, p, count_include_pad=count_include_pad)
        pool(name, "avg_pool2d", run, x, 3, 2, 1, count_include_pad=counts)


def norms():
    """Layer and RMS norm over the last dim; batch norm over all but the channels."""
    affine = {"weight": real(6), "bias": real(6)}
    eps = 1e-5
    layer = lambda x, weight, bias: F.layer_norm(x, (6,), weight, bias, eps)
    case("layer_norm_2d", "layer_norm", layer, {"x": real(4, 6), **affine}, eps=eps)
    case("layer_norm_sequence", "layer_norm", layer, {"x": real(2, 3, 6), **affine}, eps=eps)
    # a large common offset: a variance computed as E[x^2] - E[x]^2 loses all its digits in f32
    case("layer_norm_offset", "layer_norm", layer, {"x": real(3, 6, low=999, high=1001), **affine}, eps=eps)
    rms = lambda x, weight: F.rms_norm(x, (6,), weight, eps)
    case("rms_norm_2d", "rms_norm", rms, {"x": real(4, 6), "weight": real(6)}, eps=eps)
    case("rms_norm_sequence", "rms_norm", rms, {"x": real(2, 3, 6), "weight": real(6)}, eps=eps)

    params = {"eps": eps, "momentum": 0.1}
    affine = {"weight": real(3), "bias": real(3)}

    def batch(x, weight, bias, running_mean, running_var):
        return F.batch_norm(x, running_mean, running_var, weight, bias, True, params["momentum"], eps)

    for name, x in (("2d", (5, 3)), ("4d", (2, 3, 4, 2))):
        state = {"running_mean": torch.zeros(3).double(), "running_var": torch.ones(3).double()}
        case(f"batch_norm_{name}", "batch_norm", batch, {"x": real(*x), **affine}, state, **params)

    fixed = {"running_mean": torch.tensor([0.5, -0.25, 1.0]).double(), "running_var": torch.tensor([0.5, 2.0, 1.5]).double()}

    def evaluate(x, weight, bias, running_mean, running_var):
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, params["momentum"], eps)

    case("batch_norm_eval", "batch_norm_eval", evaluate, {"x": real(2, 3, 2, 2), **affine}, fixed, **params)


def activations():
    """Element by element, then along the last dim; two cases reach where an exponential overflows."""
    functions = {
        "relu": F.relu,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "silu": F.silu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }
    for name, function in functions.items():
        case(name, name, lambda x: function(x), {"x": real(3, 7, low=-4, high=4)})
    along = {"softmax": torch.softmax, "log_softmax": torch.log_softmax}
    for name, function in along.items():
        case(name, name, lambda x: function(x, -1), {"x": real(2, 3, 5)}, axis=-1)
        case(f"{name}_large", name, lambda x: function(x, -1), {"x": real(3, 5, low=-900, high=900)}, axis=-1)


def losses():
    """Means over the batch."""
    labels = {"target": index(4, bound=6)}
    entropy = lambda x, target: F.cross_entropy(x, target)
    case("cross_entropy", "cross_entropy", entropy, {"x": real(4, 6), **labels}, reduction="mean")
    case("cross_entropy_large", "cross_entropy", entropy, {"x": real(4, 6, low=-900, high=900), **labels}, reduction="mean")
    case("mse", "mse", F.mse_loss, {"input": real(4, 3), "target": real(4, 3)}, reduction="mean")


def sequences():
    """Embedding with a repeated index, and attention from packed q, k, v."""
    look_up = lambda weight, index: F.embedding(index, weight)
    case("embedding", "embedding", look_up, {"weight": real(4, 3), "index": index(2, 5, bound=4)})
    for heads in (1, 2):
        run = lambda qkv: models.attention(qkv, heads)
        case(f"causal_attention_{heads}", "causal_attention", run, {"qkv": real(2, 5, 12 * 2)}, heads=heads)
    run = lambda qkv: models.attention(qkv, 2)
    case("causal_attention_one_step", "causal_attention", run, {"qkv": real(2, 1, 12)}, heads=2)


def reductions():
    """Over everything, and over one axis."""
    x = {"x": real(2, 3, 4)}
    case("sum_all", "sum", lambda x: x.sum(), x)
    case("mean_all", "mean", lambda x: x.mean(), x)
    for axis in (0, 1, 2):
        case(f"sum_axis{axis}", "sum", lambda x: x.sum(axis), x, axis=axis)
        case(f"mean_axis{axis}", "mean", lambda x: x.mean(axis), x, axis=axis)
        case(f"max_axis{axis}", "max", lambda x: x.amax(axis), x, axis=axis)


def shapes():
    """Moves of elements."""
    parts = {"a": real(2, 3), "b": real(2, 1), "c": real(2, 2)}
    case("concat_axis1", "concat", lambda a, b, c: torch.cat([a, b, c], 1), parts, axis=1)
    parts = {"a": real(2, 3, 2), "b": real(1, 3, 2)}
    case("concat_axis0", "concat", lambda a, b: torch.cat([a, b], 0), parts, axis=0)
    case("transpose", "permute", lambda x: x.permute(1, 0), {"x": real(3, 4)}, dims=(1, 0))
    case("permute_3d", "permute", lambda x: x.permute(2, 0, 1), {"x": real(2, 3, 4)}, dims=(2, 0, 1))
    case("permute_heads", "permute", lambda x: x.permute(0, 2, 1, 3), {"x": real(2, 3, 2, 4)}, dims=(0, 2, 1, 3))
    case("reshape", "reshape", lambda x: x.reshape(3, 4), {"x": real(2, 6)}, shape=(3, 4))


def elementwise():
    """Two operands, equal in shape or broadcast by NumPy's rules; then one operand."""
    functions = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}
    pairs = {
        "same": ((2, 3), (2, 3)),
        "row": ((2, 3), (3,)),
        "column": ((2, 3), (2, 1)),
        "both": ((2, 1, 4), (3, 1)),
        "scalar": ((2, 3), ()),
    }
    for name, function in functions.items():
        for pair, (a, b) in pairs.items():
            # divisors stay away from zero, where a small difference in rounding would be a large one
            inputs = {"a": real(*a), "b": real(*b, low=0.5, high=2)}
            case(f"{name}_{pair}", name, lambda a, b: function(a, b), inputs)
    case("exp", "exp", torch.exp, {"input": real(2, 5)})
    case("log", "log", torch.log, {"input": real(2, 5, low=0.1, high=3)})
    case("sqrt", "sqrt", torch.sqrt, {"input": real(2, 5, low=0.1, high=3)})


if __name__ == "__main__":
    torch.set_num_threads(1)
    for group in (products, convolutions, pools, norms, activations, losses, sequences, reductions, shapes, elementwise):
        group()
    write_tensors("ops.safetensors", tensors)
    write_json("ops.json", {"computed_with": versions(), "dtype": "f64", "cases": cases})
