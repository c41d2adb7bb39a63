# shellcheck shell=bash
# The environment of every entry script.  Sourced first; sets KD_ROOT, KD_PYTHON, KD_KENLM_BIN, PYTHONPATH, PATH.
#
# It makes and checks nothing, so that a step starts fast; utils/setup_env.sh does both.
# KD_PYTHON_ENV=/path/to/python  use this Python (with a newer torch and k2, for example) instead of the one in .venv, with your PYTHONPATH
# KD_KENLM_BIN=/path/to/folder   folder of lmplz and build_binary for your own Python (default: beside that Python)

# The user's environment for bash must not change the scripts' behaviour. Their first line, '#!/bin/bash -p', makes bash ignore
# BASH_ENV, CDPATH, SHELLOPTS, BASHOPTS, GLOBIGNORE and exported functions. `bash script` restarts with -p; -x is kept if
# the command line has it.
if [[ ! -o privileged && "$0" == "${BASH_SOURCE[-1]}" && $- != *[ic]* ]]; then
  if [[ $- == *x* && -z "${BASH_ENV:-}" && "${SHELLOPTS@a}" != *x* ]]; then
    builtin exec /bin/bash -px -- "$0" "$@"
  fi
  builtin exec /bin/bash -p -- "$0" "$@"
fi
export -n SHELLOPTS BASHOPTS
unset BASH_ENV ENV CDPATH GLOBIGNORE POSIXLY_CORRECT BASH_COMPAT FUNCNEST TMOUT GREP_OPTIONS LANGUAGE
# The recorded git state is the checkout's, not that of a repository whose hook runs this.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_COMMON_DIR GIT_OBJECT_DIRECTORY GIT_NAMESPACE GIT_CEILING_DIRECTORIES
# The next opened file would get the number of a closed standard stream.
if [[ ! -e /dev/fd/0 ]]; then exec </dev/null; fi
if [[ ! -e /dev/fd/1 ]]; then exec >/dev/null; fi
if [[ ! -e /dev/fd/2 ]]; then exec 2>/dev/null; fi
# Temporary files go to TMPDIR if it is usable (as an absolute path: recipes change their working folder).
if [[ -n "${TMPDIR:-}" ]]; then
  if [[ -d "$TMPDIR" && -w "$TMPDIR" && -x "$TMPDIR" ]]; then
    TMPDIR="$(cd -P -- "$TMPDIR" && pwd)"
  else
    printf 'note: TMPDIR=%s is not a folder that can be written to; temporary files go to /tmp\n' "$TMPDIR" >&2
    unset TMPDIR
  fi
fi

KD_ROOT="$(cd -P -- "${BASH_SOURCE[0]%/*}/.." && pwd)"
# These variables of Python do not change what a script does; all others do.
for kd_name in "${!PYTHON@}"; do
  case "$kd_name" in
    PYTHONPATH | PYTHONDONTWRITEBYTECODE | PYTHONPYCACHEPREFIX | PYTHONUNBUFFERED | PYTHONFAULTHANDLER) ;;
    *) unset "$kd_name" ;;
  esac
done
unset kd_name
if [[ -n "${KD_PYTHON_ENV:-}" ]]; then
  if [[ "$KD_PYTHON_ENV" != /* ]]; then KD_PYTHON_ENV="$PWD/$KD_PYTHON_ENV"; fi
  KD_PYTHON="$KD_PYTHON_ENV"
  KD_KENLM_BIN="${KD_KENLM_BIN:-${KD_PYTHON%/*}}"
  case ":${PYTHONPATH:-}:" in
    *":$KD_ROOT:"*) ;;
    *) PYTHONPATH="$KD_ROOT${PYTHONPATH:+:$PYTHONPATH}" ;;
  esac
else
  KD_PYTHON="$KD_ROOT/.venv/current/bin/python"
  KD_KENLM_BIN="$KD_ROOT/.venv/current/kenlm/bin"
  PYTHONPATH="$KD_ROOT"
  # Packages in the user's home folder would shadow the pinned ones.
  export PYTHONNOUSERSITE=1
fi
case ":$PATH:" in
  *":${KD_PYTHON%/*}:$KD_KENLM_BIN:"*) ;;
  *) PATH="${KD_PYTHON%/*}:$KD_KENLM_BIN:$PATH" ;;
esac
# On a bare checkout a step says how to make the environment.
if [[ ! -x "$KD_PYTHON" ]]; then KD_PYTHON="$KD_ROOT/utils/no_environment.sh"; fi
if [[ -n "${KD_PLAN:-}" ]]; then
  printf 'error: %s: a recipe calls scripts by run and each only, or they could not be planned (--dry-run)\n' "$0" >&2
  exit 1
fi
# One thread per process: jobs are processes; on a busy machine two threads are many times slower than one.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Sets and sorted text have the same order on every machine. Modules come from the toolkit, not from the user's current folder
# (Python 3.11 and later).
export PYTHONHASHSEED=0 PYTHONUTF8=1 PYTHONSAFEPATH=1 LC_ALL=C.UTF-8
export KD_ROOT KD_PYTHON KD_KENLM_BIN PYTHONPATH PATH
