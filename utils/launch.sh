#!/usr/bin/env bash
# Run a command once for each value, some at a time.  Usage: utils/launch.sh [--max-jobs N] NAME=a,b,c LOG COMMAND [ARGUMENT ...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.core.launch "$@"
