#!/bin/bash -p
# Lexicon, phones, words, topology, subwords.  Usage: steps/prepare_lang.sh [options] <lexicon> <lm-text-dir> <data-dir> <lang-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.lang.prepare "$@"
