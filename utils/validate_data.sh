#!/bin/bash -p
# Check a data folder (Lhotse manifests, audio, feature folders), change nothing.  Usage: utils/validate_data.sh [options] <folder>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.validate.main data "$@"
