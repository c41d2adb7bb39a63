#!/bin/bash -p
# Pronunciation and silence probabilities.  Usage: steps/estimate_lang_probs.sh [options] <lang> <ali> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.ali.lang_probs "$@"
