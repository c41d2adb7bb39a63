#!/bin/bash -p
# Check a decoding graph, change nothing.  Usage: utils/validate_graph.sh [options] <folder>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.validate.main graph "$@"
