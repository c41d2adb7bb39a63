#!/bin/bash -p
# A teacher's posteriors for each unit of an alignment.  Usage: steps/dump_posteriors.sh [options] <lang-dir> <teacher-dir> <ali-dir> <post-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.posteriors.make "$@"
