#!/bin/bash -p
# Build a decision tree and train a triphone GMM.  Usage: steps/train_tri.sh [options] <feats> <lang> <ali> <gmm>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.gmm.train_tri "$@"
