#!/bin/bash -p
# LM text, normalised, from a file or from a data set's transcripts.  Usage: steps/prepare_lm_text.sh [options] <lm-text[.gz]|data-dir> <out-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.lm.text "$@"
