"""The four library models in PyTorch, under the parameter names of phalanx's `model.safetensors`.

A `model.safetensors` that phalanx wrote loads with `build(kind).load_state_dict(load_file(path))`.
Sizes are keyword arguments; the defaults are those of the run file.

Shape legend: b batch, t time, d width, h heads, e = d / h.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Mlp(nn.Module):
    """Fully connected layers with ReLU between them; `sizes` runs from input to classes."""

    def __init__(self, sizes=(784, 512, 256, 10)):
        super().__init__()
        self.depth = len(sizes) - 1
        for k, (wide_in, wide_out) in enumerate(zip(sizes, sizes[1:]), start=1):
            setattr(self, f"fc{k}", nn.Linear(wide_in, wide_out))

    def forward(self, x):
        x = x.flatten(1)
        for k in range(1, self.depth):
            x = F.relu(getattr(self, f"fc{k}")(x))
        return getattr(self, f"fc{self.depth}")(x)


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max-pooling; the first convolution keeps the image's size."""

    def __init__(self, side=28, channels=(1, 6, 16), hidden=(120, 84), classes=10):
        super().__init__()
        flat = channels[2] * ((side // 2 - 4) // 2) ** 2
        self.conv1 = nn.Conv2d(channels[0], channels[1], 5, padding=2)
        self.conv2 = nn.Conv2d(channels[1], channels[2], 5)
        self.fc1 = nn.Linear(flat, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.fc3 = nn.Linear(hidden[1], classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class Cnn(nn.Module):
    """The network of PyTorch's MNIST example, without its dropout."""

    def __init__(self, side=28, channels=(1, 32, 64), hidden=128, classes=10):
        super().__init__()
        flat = channels[2] * ((side - 4) // 2) ** 2
        self.conv1 = nn.Conv2d(channels[0], channels[1], 3)
        self.conv2 = nn.Conv2d(channels[1], channels[2], 3)
        self.fc1 = nn.Linear(flat, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = F.max_pool2d(x, 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    """One pre-norm transformer block: causal attention, then an MLP four times as wide."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x_btd):
        x_btd = x_btd + self.proj(attention(self.qkv(self.norm1(x_btd)), self.heads))
        return x_btd + self.down(F.gelu(self.up(self.norm2(x_btd)), approximate="tanh"))


class Gpt(nn.Module):
    """Byte-level language model with learned positions; the head shares the token embedding."""

    def __init__(self, vocab=256, context=128, width=128, heads=4, layers=4):
        super().__init__()
        self.tok = nn.Embedding(vocab, width)
        self.pos = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-5)
        for name, param in self.named_parameters():
            if param.dim() == 2:
                nn.init.normal_(param, std=0.02 * residual_scale(name, layers))
            elif name.endswith("bias"):
                nn.init.zeros_(param)

    def forward(self, tokens_bt):
        x_btd = self.tok(tokens_bt) + self.pos.weight[: tokens_bt.shape[1]]
        for block in self.blocks:
            x_btd = block(x_btd)
        # F.linear and not a module, so that the shared matrix has one name in the state_dict
        return F.linear(self.norm(x_btd), self.tok.weight)


def attention(qkv_bt3d, heads):
    """Causal multi-head attention; q, k and v lie side by side, each cut into heads."""
    b, t, width = qkv_bt3d.shape
    d = width // 3
    q, k, v = (part.view(b, t, heads, d // heads).transpose(1, 2) for part in qkv_bt3d.split(d, dim=2))
    y_bhte = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y_bhte.transpose(1, 2).reshape(b, t, d)


def residual_scale(name, layers):
    """Projections that write to the residual stream start smaller: two of them in each layer."""
    ends = (".proj.weight", ".down.weight")
    return 1 / math.sqrt(2 * layers) if name.endswith(ends) else 1.0


def loss(model, x, target):
    """Mean cross entropy over all positions of the batch, whatever the logits' leading dims are."""
    logits = model(x)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))


MODELS = {"mlp": Mlp, "lenet5": LeNet5, "cnn": Cnn, "gpt": Gpt}
PARAMETERS = {"mlp": 535_818, "lenet5": 61_706, "cnn": 1_199_882, "gpt": 842_496}


def build(kind, **sizes):
    """A model by the name it has in a run file."""
    return MODELS[kind](**sizes)


if __name__ == "__main__":
    for kind, expected in PARAMETERS.items():
        count = sum(p.numel() for p in build(kind).parameters())
        assert count == expected, f"{kind}: {count} parameters, not {expected}"
        print(f"{kind}: {count:,} parameters")
        for name, value in build(kind).state_dict().items():
            print(f"  {name} {list(value.shape)}")
