#!/bin/sh
# Installs the PyTorch that the comparison runs: a virtual environment for CPU use, without the NVIDIA libraries
# (3 GB) that the wheel asks for. Stand-ins take their place; see stand_ins.py.
#
# usage: install_peers.sh [--full] [--robust] [DIRECTORY]      default: target/peers
#   --full     pip's own choice of dependencies instead, 5.4 GB; for when the stand-ins do not fit
#   --robust   ByzFL and Flower as well, for robust.py
set -eu

TORCH=2.15.0
CUDA_RUNTIME=13.2.86 # the two libraries whose code runs when torch is loaded
BYZFL=0.0.11
TORCHVISION=0.29.2
FLOWER=1.41.0
here=$(dirname "$(readlink -f "$0")")

full=no
robust=no
while :; do
    case "${1:-}" in
    --full) full=yes ;;
    --robust) robust=yes ;;
    *) break ;;
    esac
    shift
done
venv=${1:-target/peers}

python3 -m venv "$venv"
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
if [ "$full" = yes ]; then
    pip "torch==$TORCH" numpy safetensors
else
    for tool in as ld nm objdump ldd; do
        command -v "$tool" >/dev/null || { echo "$tool is missing: install binutils and libc-bin" >&2; exit 1; }
    done
    pip numpy safetensors filelock fsspec jinja2 networkx 'setuptools>=77.0.3' sympy typing-extensions
    pip --no-deps "torch==$TORCH" "nvidia-cuda-runtime==$CUDA_RUNTIME" "nvidia-cuda-cupti==$CUDA_RUNTIME"
    "$venv/bin/python" "$here/stand_ins.py" "$venv"
fi
if [ "$robust" = yes ]; then
    # byzfl asks for torch and torchvision of its own; what it imports is enough
    pip --no-deps "byzfl==$BYZFL" "torchvision==$TORCHVISION"
    pip scipy matplotlib seaborn pillow psutil "flwr==$FLOWER"
fi
"$venv/bin/python" - <<'PYTHON'
import torch

x = torch.ones(2, 2, requires_grad=True)
(x @ x).sum().backward()
assert x.grad.tolist() == [[4, 4], [4, 4]]
print("torch", torch.__version__, "trains on the CPU")
PYTHON
