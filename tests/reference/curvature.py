"""Hessian-vector products and per-sample gradients of tiny models, f64 -> curvature.safetensors, curvature.json.

For each case `c`, with the mean cross entropy of the batch as the loss and `NAME` a parameter's name:

    c/in/x, c/in/target   the batch: images or tokens, and labels
    c/param/NAME          the weights
    c/vector/NAME         a direction v over all parameters
    c/out                 logits
    c/loss                the loss
    c/grad/NAME           its gradient g
    c/hvp/NAME            H v, H the exact Hessian of the loss (no Gauss-Newton)
    c/jvp                 J v, J the Jacobian of the logits by the parameters
    c/sample_norm2/NAME   [batch]: squared norm of each sample's own gradient, by parameter
    c/sample_norm2        [batch]: the same over all parameters

A sample's loss is not divided by the batch; for the language model a sample is a sequence, and its
loss the mean over its positions. So the mean of the samples' gradients is `grad`.
"""

import torch
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

import models
from splitmix import below, symmetric
from store import versions, write_json, write_tensors

BATCH = 3
CASES = {
    "mlp": {"sizes": (6, 5, 4, 3)},
    "lenet5": {"side": 12, "channels": (1, 2, 3), "hidden": (5, 4), "classes": 3},
    "cnn": {"side": 8, "channels": (1, 2, 3), "hidden": 4, "classes": 3},
    "gpt": {"vocab": 7, "context": 5, "width": 8, "heads": 2, "layers": 2},
}
tensors = {}


def batch_of(kind, sizes, seed):
    """Inputs and targets that fit the model."""
    if kind == "gpt":
        shape = (BATCH, sizes["context"])
        return below(seed, 0, shape, sizes["vocab"]), below(seed, 1, shape, sizes["vocab"])
    if kind == "mlp":
        return symmetric(seed, 0, (BATCH, sizes["sizes"][0])), below(seed, 1, (BATCH,), sizes["sizes"][-1])
    shape = (BATCH, sizes["channels"][0], sizes["side"], sizes["side"])
    return symmetric(seed, 0, shape), below(seed, 1, (BATCH,), sizes["classes"])


def record(kind, sizes, seed):
    """All of one model. Weights are of order one, so that no term of the Hessian drowns."""
    net = models.build(kind, **sizes).double()
    names = [name for name, _ in net.named_parameters()]
    params = {n: symmetric(seed, 100 + k, p.shape, 0.6) for k, (n, p) in enumerate(net.named_parameters())}
    vector = {n: symmetric(seed, 200 + k, p.shape) for k, (n, p) in enumerate(net.named_parameters())}
    x, target = batch_of(kind, sizes, seed)

    logits = lambda params, x: functional_call(net, params, (x,))

    def loss(params, x, target):
        z = logits(params, x)
        return torch.nn.functional.cross_entropy(z.reshape(-1, z.shape[-1]), target.reshape(-1))

    one = lambda params, x, target: loss(params, x.unsqueeze(0), target.unsqueeze(0))
    out, out_tangent = jvp(lambda p: logits(p, x), (params,), (vector,))

    leaves = {n: p.clone().requires_grad_() for n, p in params.items()}
    value = loss(leaves, x, target)
    gradient = torch.autograd.grad(value, list(leaves.values()), create_graph=True)
    along = sum((g * v).sum() for g, v in zip(gradient, vector.values()))
    hvp = dict(zip(names, torch.autograd.grad(along, list(leaves.values()))))
    samples = vmap(grad(one), in_dims=(None, 0, 0))(params, x, target)
    norms = {n: samples[n].reshape(BATCH, -1).square().sum(1) for n in names}

    check_hvp(lambda p: loss(p, x, target), params, vector, hvp)
    for n, g in zip(names, gradient):
        torch.testing.assert_close(samples[n].mean(0), g)
        entry = {"param": params[n], "vector": vector[n], "grad": g, "hvp": hvp[n], "sample_norm2": norms[n]}
        tensors.update({f"{kind}/{what}/{n}": value for what, value in entry.items()})
    tensors.update({f"{kind}/in/x": x, f"{kind}/in/target": target, f"{kind}/out": out, f"{kind}/jvp": out_tangent})
    tensors.update({f"{kind}/loss": value, f"{kind}/sample_norm2": sum(norms.values())})
    return {"sizes": sizes, "parameters": names}


def check_hvp(loss, params, vector, hvp, step=1e-5):
    """The product agrees with a central difference of gradients along the vector."""
    ahead, behind = (grad(loss)({n: p + s * vector[n] for n, p in params.items()}) for s in (step, -step))
    for n in params:
        difference = (ahead[n] - behind[n]) / (2 * step)
        torch.testing.assert_close(hvp[n], difference, rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    torch.set_num_threads(1)
    # the fused attention kernel has neither a forward mode nor a second derivative
    with sdpa_kernel(SDPBackend.MATH):
        cases = {kind: record(kind, sizes, 77 + k) for k, (kind, sizes) in enumerate(CASES.items())}
    write_tensors("curvature.safetensors", tensors)
    write_json("curvature.json", {"computed_with": versions(), "dtype": "f64", "batch": BATCH, "cases": cases})
