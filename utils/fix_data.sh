#!/bin/bash -p
# Fix a data folder, keeping a backup; audio is never touched.  Usage: utils/fix_data.sh <data>   (--help says more)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.corpus.fix "$@"
