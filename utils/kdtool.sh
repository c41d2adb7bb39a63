#!/bin/bash -p
# The command `kdtool` from a checkout.  Usage: utils/kdtool.sh COMMAND [argument ...]   (--help lists the commands)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$KD_PYTHON" -m kdtool "$@"
