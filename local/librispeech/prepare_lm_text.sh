#!/usr/bin/env bash
# LM text, normalised.  Usage: local/librispeech/prepare_lm_text.sh [options] <lm-text[.gz]> <out-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.lm.text "$@"
