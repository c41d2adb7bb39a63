#!/bin/bash -p
# Replaces Python while there is none (see utils/env.sh): says what to do, exit status 1.
if [[ -n "${KD_PYTHON_ENV:-}" ]]; then
  printf 'error: KD_PYTHON_ENV=%s is not a Python that can be run; name the bin/python of your environment\n' "$KD_PYTHON_ENV" >&2
else
  printf 'error: the environment is not made yet; make it with %s\n' "$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)/setup_env.sh" >&2
fi
exit 1
