#!/usr/bin/env bash
# All tests, set-up included.  Usage: tests/run.sh [unit|lint|recipe ...]   (default: all of them)
# The tiny recipe runs on the speech sample in KD_SAMPLE (default: ../shared/data beside the checkout) when that folder is
# there, and on the embedded corpus otherwise. A skipped test is a failure.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
"$root/utils/setup_env.sh"
source "$root/utils/env.sh"

lint() {
  "$KD_PYTHON" -m ruff check --no-cache --config tests/ruff.toml kdtool local tests utils setup.py
  "$KD_PYTHON" -m mypy --cache-dir "$KD_ROOT/.mypy_cache" --config-file tests/mypy.ini kdtool local/*/
  local scripts
  mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
  "$(dirname "$KD_PYTHON")/shellcheck" --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
  echo "lint: clean"
}

unit() {
  "$KD_PYTHON" -m pytest -q -p no:cacheprovider --strict-markers --durations=8 -c tests/pytest.ini tests/unit tests/shell
}

recipe() {
  "$KD_PYTHON" -m pytest -q -p no:cacheprovider -s -c tests/pytest.ini tests/recipe
}

if (($# == 0)); then set -- lint unit recipe; fi
for part in "$@"; do
  case "$part" in
    lint | unit | recipe) "$part" ;;
    *) echo "error: tests/run.sh: no part '$part'; known are lint, unit, recipe" >&2; exit 2 ;;
  esac
done
