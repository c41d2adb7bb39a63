#!/bin/bash -p
# Decode a data set and score it, scales tuned two-fold.  Usage: steps/decode.sh --graph DIR [--rescore-lm DIR] [--ref-ali DIR] [options] <model-dir> <feats-dir> <lang> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.decode.decode "$@"
