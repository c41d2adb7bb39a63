#!/bin/bash -p
# Make the Python environment in <checkout>/.venv unless it is up to date.  Usage: utils/setup_env.sh [--force]
#
# .venv/env-<key> holds one environment, .venv/current points to it; <key> is a digest of the requirement files, the
# build script and the checkout's path. The pointer moves when an environment is complete, so an interrupted
# set-up is never used. The C++ code is compiled into .venv/native (CXX selects another compiler than g++).
# KD_PYTHON_ENV=/path/to/python: checks your environment, installs nothing.
# KD_BASE_PYTHON=/path/to/python3.11: build with this Python.
set -euo pipefail
here="$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$here/env.sh"
# shellcheck source-path=SCRIPTDIR source=attend.sh
source "$here/attend.sh"
trap 'if (($? == 130)); then printf "set-up: interrupted; run the same command again\n" >&2; fi' EXIT
store="$KD_ROOT/.venv"

die() {
  printf 'error: set-up: %s\n' "$1" >&2
  exit 1
}

wanted_key() {
  { cd "$here" && sha256sum requirements*.txt build_env.sh; printf '%s %s\n' "$KD_ROOT" "${KD_BASE_PYTHON:-}"; } | sha256sum | cut -c1-16
}

base_version() {  # the present version of an environment's Python; empty if the underlying Python is gone
  "$1/bin/python" -c 'import platform; print(platform.python_version())' 2>/dev/null || true
}

is_ready() {  # is_ready FOLDER: complete, and with the same underlying Python as when it was made
  [[ -f "$1/.ready" && "$(<"$1/.ready")" == "$(base_version "$1")" ]]
}

check_own() {  # the user's environment: check all imports, again only if it or this checkout changed
  [[ -x "$KD_PYTHON_ENV" ]] || exec "$KD_PYTHON"
  local site stamp
  site="$("$KD_PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')" || die "KD_PYTHON_ENV=$KD_PYTHON does not start"
  stamp="$KD_PYTHON $KD_KENLM_BIN $(stat -c '%Y %n' "$site" "$here/check_env.py")"
  [[ -f "$store/own.checked" && "$(<"$store/own.checked")" == "$stamp" ]] && return
  "$KD_PYTHON" "$here/check_env.py" "$KD_KENLM_BIN" || exit 1
  mkdir -p "$store"
  [[ -e "$store/.gitignore" ]] || printf '*\n' >"$store/.gitignore"
  printf '%s\n' "$stamp" >"$store/own.checked"
}

compile_searches() {  # compile_searches PYTHON: for nodes without a compiler; compiled again when a source changed
  local made="$store/native/.made" python file changed=
  for file in "$KD_ROOT"/kdtool/{core/native.py,*/*.cc}; do
    [[ "$made" -nt "$file" ]] || changed=1
  done
  [[ -n "$changed" ]] || return 0
  python="$(realpath -s "$1")"
  (cd "$KD_ROOT" && "$python" -m kdtool.core.native) || exit 1
  touch "$made"
}

case "${1:-}" in
  --help | -h) sed -n '2,9s/^# \{0,1\}//p' "$here/setup_env.sh"; exit 0 ;;
  --force | '') ;;
  *) printf 'error: unknown option %s; usage: utils/setup_env.sh [--force]\n' "$1" >&2; exit 2 ;;
esac
if [[ -n "${KD_PYTHON_ENV:-}" ]]; then
  check_own
  compile_searches "$KD_PYTHON"
  exit 0
fi
target="$store/env-$(wanted_key)"
if [[ "${1:-}" != --force && "$(readlink "$store/current" 2>/dev/null)" == "${target##*/}" ]] && is_ready "$target"; then
  compile_searches "$target/bin/python"
  exit 0
fi

mkdir -p "$store" || die "cannot make $store; this folder must be writable once"
[[ -e "$store/.gitignore" ]] || printf '*\n' >"$store/.gitignore"
exec 8>"$store/lock"
if ! flock -n 8; then
  printf 'set-up: another set-up of this checkout is running; waiting for it\n' >&2
  attend flock 8
fi
if [[ "${1:-}" == --force ]] || ! is_ready "$target"; then
  rm -rf -- "$target"
  attend "$here/build_env.sh" "$target" "$store/setup.log"
fi
ln -sfn "${target##*/}" "$store/.current.$$"
mv -T "$store/.current.$$" "$store/current"
for old in "$store"/env-*; do
  if [[ "$old" != "$target" && "${old##*/}" =~ ^env-[0-9a-f]{16}$ ]]; then rm -rf -- "$old"; fi
done
compile_searches "$target/bin/python"
