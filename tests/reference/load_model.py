"""Loads a `model.safetensors` into its PyTorch twin and prints its loss on a folder's test images.

usage: load_model.py KIND SIZES_AS_JSON MODEL_FILE IMAGE_FOLDER

Names and shapes must be those of the state_dict, none missing and none left over. A model of tokens has no images:
it prints `loaded`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

import models

kind, sizes, model_file, folder = sys.argv[1:]
model = models.build(kind, **json.loads(sizes))
state = {name: torch.from_numpy(values.copy()) for name, values in load_file(model_file).items()}
model.load_state_dict(state, strict=True)
if kind == "gpt":
    print("loaded")
    sys.exit()
images = np.frombuffer((Path(folder) / "t10k-images-idx3-ubyte").read_bytes()[16:], dtype=np.uint8)
labels = np.frombuffer((Path(folder) / "t10k-labels-idx1-ubyte").read_bytes()[8:], dtype=np.uint8)
x = torch.from_numpy(images.reshape(-1, 1, 28, 28).astype(np.float32) / 255)
with torch.no_grad():
    print(models.loss(model, x, torch.from_numpy(labels.astype(np.int64))).item())
