"""Reads what a phalanx run leaves with the packages its users have, and prints it as JSON.

usage: read_artefacts.py CHECKPOINT_DIR MODEL_FILE TENSORBOARD_DIR
"""

import json
import sys

from safetensors import safe_open
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def tensors(path):
    return {
        name: {"dtype": str(array.dtype), "shape": list(array.shape), "values": array.flatten().tolist()}
        for name, array in load_file(path).items()
    }


def scalars(directory):
    accumulator = EventAccumulator(directory)
    accumulator.Reload()
    return {
        tag: [[event.step, event.value] for event in accumulator.Scalars(tag)]
        for tag in sorted(accumulator.Tags()["scalars"])
    }


checkpoint, model, tensorboard = sys.argv[1:]
with safe_open(model, framework="numpy") as file:
    metadata = file.metadata()
json.dump(
    {
        "model": tensors(f"{checkpoint}/model.safetensors"),
        "optimizer": tensors(f"{checkpoint}/optimizer.safetensors"),
        "final": tensors(model),
        "metadata": metadata,
        "scalars": scalars(tensorboard),
    },
    sys.stdout,
)
