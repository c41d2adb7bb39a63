#!/bin/bash -p
# Stands in for Python while a recipe is asked what it would run (see utils/env.sh): notes the command in the file KD_PLAN.
printf '%s\0' "${KD_STAGE:-}" "$#" "$@" >>"$KD_PLAN"
