#!/bin/bash -p
# Lhotse manifests of a corpus in LibriSpeech's layout.  Usage: local/librispeech/prepare_data.sh [options] <corpus> <data-dir>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
exec "$KD_PYTHON" -m local.librispeech.prepare_data "$@"
