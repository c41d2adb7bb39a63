#!/bin/bash -p
# A small synthetic corpus in LibriSpeech's layout, LM text and lexicon.  Usage: local/librispeech/make_embedded.sh [options] <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
exec "$KD_PYTHON" -m local.librispeech.embedded "$@"
