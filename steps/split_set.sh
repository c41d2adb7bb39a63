#!/bin/bash -p
# Hold some speakers of a data set out.  Usage: steps/split_set.sh [options] <data-dir> <rest-dir> <held-out-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.corpus.split "$@"
