#!/bin/bash -p
# Trains students on the available device, beside the CPU.  Usage: tests/gpu.sh [PREPARED_FOLDER] [options]   (--help lists them)
# KD_PYTHON_ENV=/path/to/python names a Python with a torch for this machine's GPU (2.x; numpy, PyYAML and safetensors beside it).
# Without a GPU it uses the CPU only. Prints updates per second and losses; fails when training does.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/utils/env.sh"
exec "$KD_PYTHON" "$root/tests/bench/bench_device.py" "$@"
