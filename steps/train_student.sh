#!/bin/bash -p
# Train an acoustic model.  Usage: steps/train_student.sh [options] <feats> <ali> <dev-feats> <dev-ali> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.student.train "$@"
