#!/bin/bash -p
# Language model over senones, phones or subwords.  Usage: steps/train_teacher.sh [options] <lm-text-dir> <lang-dir> <gmm-dir> <train-ali-dir> <dev-ali-dir> <teacher-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.teacher.train "$@"
