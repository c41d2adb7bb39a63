#!/bin/bash -p
# Kaldi data folders of a corpus that Lhotse prepares.  Usage: local/lhotse/prepare_data.sh --name NAME [options] <corpus> <out>   (--help lists the options)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
exec "$KD_PYTHON" -m local.lhotse.prepare_data "$@"
