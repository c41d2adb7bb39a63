#!/bin/bash -p
# Give an alignment the pdfs of a chain tree.  Usage: steps/convert_ali.sh [options] <lang> <ali> <tree> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.chain.convert "$@"
