#!/bin/bash -p
# A small synthetic corpus in AN4's layout.  Usage: local/an4/make_embedded.sh [options] <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
exec "$KD_PYTHON" -m local.an4.embedded "$@"
