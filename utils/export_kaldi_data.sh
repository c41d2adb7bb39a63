#!/bin/bash -p
# A Kaldi data folder of Lhotse manifests.  Usage: utils/export_kaldi_data.sh [options] <data-dir> <kaldi-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.corpus.kaldi_export "$@"
