#!/bin/bash -p
# Make the denominator graph of LF-MMI.  Usage: steps/make_denominator.sh [options] <lang> <ali> <tree> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.chain.make_denominator "$@"
