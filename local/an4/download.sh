#!/bin/bash -p
# AN4 from its site or a mirror.  Usage: local/an4/download.sh [options] <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
exec "$KD_PYTHON" -m local.an4.download "$@"
