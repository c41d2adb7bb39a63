#!/bin/bash -p
# Word n-gram LM with KenLM.  Usage: steps/train_ngram.sh [options] <lm-text-dir> <lang-dir> <dev-data-dir> <lm-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.lm.ngram "$@"
