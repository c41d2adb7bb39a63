#!/bin/bash -p
# Decoding graph (HCLG) from lexicon, n-gram LM and tree.  Usage: steps/make_graph.sh [options] <lang> <lm-dir> <model-dir> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.graph.make_graph "$@"
