#!/bin/bash -p
# Train a triphone GMM on speaker-adapted features (fMLLR).  Usage: steps/train_sat.sh [options] <feats> <lang> <ali> <gmm-of-ali> <gmm>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.gmm.train_sat "$@"
