#!/bin/bash -p
# Decodes of an ablation -> ablation.json and ABLATION.md.  Usage: steps/collect_ablation.sh [options] <ablation-dir> <ABLATION.md>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.ablation.collect "$@"
