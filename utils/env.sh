# shellcheck shell=bash
# The environment of every entry script.  Sourced, not run; sets KD_ROOT, KD_PYTHON, KD_KENLM_BIN, PYTHONPATH, PATH.
#
# It makes nothing and checks nothing, so that a step starts fast: utils/setup_env.sh does both.
# KD_PYTHON_ENV=/path/to/python  use this Python (a newer torch and k2, say) instead of the one in .venv
# KD_KENLM_BIN=/path/to/folder   where lmplz and build_binary are, for a Python of your own (default: beside that Python)
KD_ROOT="$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [[ -n "${KD_PYTHON_ENV:-}" ]]; then
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
# A step that is called on a bare checkout says how to make the environment.
if [[ ! -x "$KD_PYTHON" ]]; then KD_PYTHON="$KD_ROOT/utils/no_environment.sh"; fi
# Asked what it would run, a recipe runs nothing: the commands of its steps are noted.
if [[ -n "${KD_PLAN:-}" ]]; then KD_PYTHON="$KD_ROOT/utils/note_command.sh"; fi
# One thread a process: jobs are processes, and two threads on a busy machine are many times slower than one.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# The same order of sets and of sorted text on every machine.
export PYTHONHASHSEED=0 PYTHONUTF8=1 LC_ALL=C.UTF-8
export KD_ROOT KD_PYTHON KD_KENLM_BIN PYTHONPATH PATH
