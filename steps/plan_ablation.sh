#!/bin/bash -p
# An ablation's systems and seeds -> a student's options each.  Usage: steps/plan_ablation.sh [options] <ablation.yaml> <exp-dir> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.ablation.plan "$@"
