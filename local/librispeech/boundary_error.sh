#!/bin/bash -p
# How exact kdtool align is on synthetic speech with known times: monophones and triphones trained on other sentences and voices.
# Usage: local/librispeech/boundary_error.sh [--train-utts N] [--dev-utts N] [--nj N] [--model GMM] WORK
# Prints a table per model (median and mean error in ms, share within 10 to 50 ms); --model: a GMM folder of your own, with its
# lang folder inside it, instead of training two. About 2 minutes of processor time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../utils/env.sh"
source "$KD_ROOT/utils/attend.sh"
cd "$KD_ROOT"
usage() { sed -n '2,5s/^# //p' "$KD_ROOT/local/librispeech/boundary_error.sh"; }

declare -A opt=([train-utts]=240 [dev-utts]=120 [nj]=2 [model]="")
while (($#)); do
  case "$1" in
    -h | --help) usage && exit 0 ;;
    --train-utts | --dev-utts | --nj | --model)
      if (($# < 2)); then echo "error: $1 needs a value" >&2 && exit 2; fi
      opt["${1#--}"]="$2" && shift 2 ;;
    -*) echo "error: unknown option $1" >&2 && usage >&2 && exit 2 ;;
    *) break ;;
  esac
done
if (($# != 1)); then usage >&2 && exit 2; fi
work="$(realpath -m "$1")"

measure() {
  local/librispeech/make_embedded.sh --nj "${opt[nj]}" --train-utts "${opt[train-utts]}" --dev-utts "${opt[dev-utts]}" --lm-sentences 3000 "$work/corpus"
  local models=("${opt[model]}")
  if [[ -z "${opt[model]}" ]]; then
    egs/mini_librispeech/run.sh --work "$work" --nj "${opt[nj]}" --stop-stage tri --corpus "$work/corpus/LibriSpeech" \
      --lm-text "$work/corpus/lm-text.txt.gz" --lexicon "$work/corpus/lexicon.txt"
    models=("$work/exp/mono" "$work/exp/tri")
  fi
  for model in "${models[@]}"; do
    out="$work/aligned_${model##*/}"
    utils/kdtool.sh align --nj "${opt[nj]}" --model "$model" --out "$out" "$work/corpus/LibriSpeech/dev-clean-2"
    utils/kdtool.sh boundary-error --json "$out.json" "$out" "$work/corpus/truth"
  done
}

attend measure
