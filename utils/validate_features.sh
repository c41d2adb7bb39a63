#!/bin/bash -p
# Check a feature folder, change nothing.  Usage: utils/validate_features.sh [options] <folder>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.validate.main features "$@"
