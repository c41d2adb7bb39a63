#!/bin/bash -p
# Build a tree over left biphones with the chain topology.  Usage: steps/train_chain_tree.sh [options] <feats> <lang> <ali> <tree>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.chain.train_tree "$@"
