#!/bin/bash -p
# An ablation -> one page with tables, charts and an utterance's posteriors.  Usage: steps/make_report.sh [options] <ablation.json> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.report.make "$@"
