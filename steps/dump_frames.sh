#!/bin/bash -p
# Posteriors by frame of acoustic models: an ensemble's mean, or lattices in a graph.  Usage: steps/dump_frames.sh [options] <model[,model..]> <feats-dir> <lang-dir> <post-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.framewise.make "$@"
