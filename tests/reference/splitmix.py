"""Numbers that any language can make again: splitmix64 of a key, and what is drawn from it.

    key(seed, stream, i) = seed * 1000003 + stream * 2^32 + i            (mod 2^64)
    hash(seed, stream, i) = splitmix64(key)
    uniform(seed, stream, i) = (hash >> 11) * 2^-53                      in [0, 1)

`splitmix64(x)` is the generator's output for state `x`: add the golden gamma, then mix.
"""

import numpy as np
import torch

FORMULA = {
    "key": "seed * 1000003 + stream * 2^32 + i, mod 2^64",
    "hash": "z = key + 0x9E3779B97F4A7C15; z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9; "
    "z = (z ^ z >> 27) * 0x94D049BB133111EB; hash = z ^ z >> 31; all mod 2^64",
    "uniform": "(hash >> 11) * 2^-53",
}


def hashes(seed, stream, count):
    """The hashes of `i = 0 .. count`, as u64."""
    u64 = np.uint64
    base = (seed * 1_000_003 + (stream << 32)) % 2**64
    with np.errstate(over="ignore"):
        z = u64(base) + np.arange(count, dtype=u64) + u64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
        return z ^ (z >> u64(31))


def uniform(seed, stream, count):
    """`count` numbers in [0, 1), f64."""
    return (hashes(seed, stream, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def symmetric(seed, stream, shape, bound=1.0):
    """A tensor of `(2 u - 1) * bound`, f64, filled in row-major order."""
    count = int(np.prod(shape, dtype=np.int64))
    return torch.from_numpy((2.0 * uniform(seed, stream, count) - 1.0) * bound).reshape(shape)


def below(seed, stream, shape, bound):
    """A tensor of `hash mod bound`, i64, filled in row-major order."""
    count = int(np.prod(shape, dtype=np.int64))
    return torch.from_numpy((hashes(seed, stream, count) % np.uint64(bound)).astype(np.int64)).reshape(shape)


# splitmix64 from state 0 is published with this first output; a wrong shift would show here
assert hashes(0, 0, 1)[0] == 0xE220A8397B1DCDAF
