#!/bin/bash -p
# Score files of decodes -> results.json and RESULTS.md.  Usage: steps/collect_results.sh [options] <exp-dir> ... <RESULTS.md>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.results.collect "$@"
