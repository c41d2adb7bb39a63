#!/bin/bash -p
# Check an alignment folder, change nothing.  Usage: utils/validate_ali.sh [options] <folder>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.validate.main ali "$@"
