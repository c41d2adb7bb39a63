#!/bin/bash -p
# Replaces Python during planning (see utils/env.sh): notes the command in the file KD_PLAN.
printf '%s\0' "${KD_STAGE:-}" "$#" "$@" >>"$KD_PLAN"
