#!/bin/bash -p
# Align a set with a GMM.  Usage: steps/align.sh [options] <feats> <lang> <gmm> <ali>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.ali.align "$@"
