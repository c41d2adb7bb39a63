#!/bin/bash -p
# Decoding graph of a phone bigram or, with --order 0, a free phone loop.  Usage: steps/make_phone_graph.sh [options] <lang> <ali-dir> <model-dir> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.graph.phone_graph "$@"
