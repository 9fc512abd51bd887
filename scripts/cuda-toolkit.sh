#!/usr/bin/env bash
# Puts the CUDA compiler and the static runtime from PyPI into a directory, and prints the CUDA_HOME to build with. No card and no
# driver are needed.
#
#   export CUDA_HOME=$(scripts/cuda-toolkit.sh DIR)
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
dir=$1
release=13.0

home() { echo "$dir"/lib/python3*/site-packages/nvidia/cu13; }

if [ ! -x "$(home)/bin/nvcc" ]; then
    python3 -m venv "$dir" >&2
    packages=()
    for package in nvcc crt runtime cccl; do packages+=("nvidia-cuda-$package==$release.*"); done
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" "nvidia-nvvm==$release.*" >&2
fi
"$(home)/bin/nvcc" --version >&2
cd "$(home)"
pwd
