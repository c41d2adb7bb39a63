#!/bin/bash -p
# Check a posterior dump, change nothing.  Usage: utils/validate_dump.sh [options] <folder>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.validate.main dump "$@"
