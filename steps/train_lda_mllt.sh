#!/bin/bash -p
# Train a triphone GMM on spliced features with LDA and MLLT.  Usage: steps/train_lda_mllt.sh [options] <feats> <lang> <ali> <gmm>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.gmm.train_lda_mllt "$@"
