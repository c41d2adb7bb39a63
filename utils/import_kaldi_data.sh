#!/bin/bash -p
# Lhotse manifests of a Kaldi data folder.  Usage: utils/import_kaldi_data.sh [options] <kaldi-dir> <data-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.corpus.kaldi_import "$@"
