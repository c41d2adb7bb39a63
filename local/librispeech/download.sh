#!/bin/bash -p
# mini_librispeech and its LM text from OpenSLR or a mirror.  Usage: local/librispeech/download.sh [options] audio|lm <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
exec "$KD_PYTHON" -m local.librispeech.download "$@"
