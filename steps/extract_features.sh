#!/bin/bash -p
# MFCC or fbank features and per-speaker statistics.  Usage: steps/extract_features.sh [options] <data-dir> <feature-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.features.extract "$@"
