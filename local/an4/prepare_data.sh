#!/bin/bash -p
# Lhotse manifests of AN4.  Usage: local/an4/prepare_data.sh [options] <corpus> <data-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
exec "$KD_PYTHON" -m local.an4.prepare_data "$@"
