# shellcheck shell=bash
# Where the toolkit is.  Sourced by run.sh; sets KD_ROOT and the environment of every step.
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
