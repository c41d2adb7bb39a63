#!/bin/bash -p
# One choice of scales for several systems.  Usage: steps/pool_scales.sh [options] <decode-dir>... <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.decode.pool_scales "$@"
