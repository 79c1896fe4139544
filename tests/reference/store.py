"""Writes what the reference programs compute: tensors as safetensors, the rest as JSON."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent


def versions():
    """What computed the numbers; belongs into the head of every file."""
    return {"torch": torch.__version__, "device": "cpu"}


def write_tensors(name, tensors):
    """Tensors under their names; the file's order is that of the names, so reruns compare equal."""
    path = HERE / name
    save_file({k: tensors[k].detach().contiguous().clone() for k in sorted(tensors)}, path)
    path.chmod(0o644)  # safetensors leaves it readable by its writer alone
    print(f"{name}: {len(tensors)} tensors, {path.stat().st_size:,} bytes")


def write_json(name, value, depth=2):
    """JSON with an entry a line down to `depth` levels, so that a changed number is a changed line."""
    path = HERE / name
    path.write_text(_lay_out(value, depth, "") + "\n")
    print(f"{name}: {path.stat().st_size:,} bytes")


def _lay_out(value, depth, indent):
    if depth == 0 or not isinstance(value, (dict, list)) or not value:
        return json.dumps(value)
    inner = indent + "  "
    if isinstance(value, dict):
        entries = [f"{json.dumps(k)}: {_lay_out(v, depth - 1, inner)}" for k, v in value.items()]
        left, right = "{", "}"
    else:
        entries = [_lay_out(v, depth - 1, inner) for v in value]
        left, right = "[", "]"
    return left + "\n" + ",\n".join(inner + e for e in entries) + "\n" + indent + right
