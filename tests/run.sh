#!/bin/bash -p
# All tests, set-up included.  Usage: tests/run.sh [lint|unit|recipe|slurm ...]   (default: all of them)
# The tiny recipe runs on the speech sample in KD_SAMPLE (default: ../shared/data beside the checkout) if that folder
# exists, else on the embedded corpus. A skipped test is a failure.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
if [[ "${1:-}" == @(-h|--help) ]]; then
  sed -n '2,4s/^# //p' tests/run.sh
  exit
fi
for part in "$@"; do
  [[ "$part" == @(lint|unit|recipe|slurm) ]] || { echo "error: tests/run.sh: no part '$part'; known are lint, unit, recipe, slurm" >&2; exit 2; }
done
"$root/utils/setup_env.sh"
source "$root/utils/env.sh"
source "$root/utils/attend.sh"

lint() {
  "$KD_PYTHON" -m ruff check --no-cache --config tests/ruff.toml kdtool local tests utils setup.py
  "$KD_PYTHON" -m mypy --cache-dir "$KD_ROOT/.mypy_cache" --config-file tests/mypy.ini kdtool local/*/
  "$(dirname "$KD_PYTHON")/lint-imports" --config tests/importlinter.ini --no-cache
  local scripts
  mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
  "$(dirname "$KD_PYTHON")/shellcheck" --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
  echo "lint: clean"
}

unit() {  # in two processes: each test uses one core
  "$KD_PYTHON" -m pytest -q -p no:cacheprovider --strict-markers --durations=8 -n 2 --dist worksteal -c tests/pytest.ini tests/unit tests/shell
}

recipe() {
  "$KD_PYTHON" -m pytest -q -p no:cacheprovider -s -c tests/pytest.ini tests/recipe
}

slurm() {  # a real Slurm on this machine, started by the tests; as root, missing packages are installed
  tests/slurm/install.sh
  "$KD_PYTHON" -m pytest -q -p no:cacheprovider -s -c tests/pytest.ini tests/slurm
}

if (($# == 0)); then set -- lint unit recipe slurm; fi
# Left by the recipe's tests for those of Slurm: digests of the tiny recipe's outputs with local jobs.
KD_TINY_CONTENT="$(mktemp -d)/content.json"
export KD_TINY_CONTENT
trap 'rm -rf "${KD_TINY_CONTENT%/*}"' EXIT
for part in "$@"; do attend "$part"; done
