#!/bin/bash -p
# Train a monophone GMM from a flat start.  Usage: steps/train_mono.sh [options] <feats> <lang> <gmm>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.gmm.train_mono "$@"
