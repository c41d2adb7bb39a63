#!/bin/bash -p
# Run a command once per value, here or in Slurm.  Usage: utils/launch.sh [OPTIONS] NAME=1:N|NAME=a,b,c|NAME=@FILE LOG COMMAND [ARGUMENT ...]; --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/env.sh"
exec "$KD_PYTHON" -m kdtool.core.launch "$@"
