#!/bin/bash -p
# Print and draw a decision tree.  Usage: utils/show_tree.sh [--phone P] [--svg FILE] <gmm>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$KD_PYTHON" -m kdtool.gmm.tree_show "$@"
