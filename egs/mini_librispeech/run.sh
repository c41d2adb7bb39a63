#!/bin/bash -p
# LibriSpeech-style corpus -> table of error rates: GMMs, cross-entropy, label interpolation, hierarchical distillation.
set -euo pipefail
here="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "$here/path.sh"
source "$here/cmd.sh"
source "$KD_ROOT/utils/recipe.sh"
source "$KD_ROOT/utils/stages.sh"
source "$KD_ROOT/utils/lfmmi_stages.sh"
source "$KD_ROOT/local/librispeech/find_corpus.sh"

usage() {
  cat <<'TEXT'
usage: egs/mini_librispeech/run.sh [options]
  --tiny             small models and few updates: minutes, for a first look and for tests
  --corpus DIR       folder in LibriSpeech's layout with train-clean-5 and dev-clean-2 (default: OpenSLR 31 is
                     downloaded; with --tiny alone a small corpus is synthesised)
  --lm-text FILE     LM text, one sentence per line, may be gzipped   } needed with --corpus; the word 'openslr'
  --lexicon FILE     CMUdict or LibriSpeech lexicon                   } downloads them (OpenSLR 11)
  --test DIR         folder in LibriSpeech's layout, of one part or several: a third set, which is reported with the scales
                     that are best on dev, and which nothing is chosen or trained on
  --work DIR         where data/ and exp/ go (default: this recipe's folder)
  --conf DIR         YAML files with options of the steps: NAME.yaml overrides conf/NAME.yaml
  --systems A,B|all  students to train and decode: names of conf/student_NAME.yaml (default: ce,mtl,li,hmt; with
                     --tiny all); with --stage ablation those of conf/ablation.yaml (default: all)
  --seeds 0,1        with --stage ablation: only these seeds; the table holds all that exist
TEXT
  recipe_usage
}

opt=([tiny]=false [corpus]="" [test]="" [lm-text]="" [lexicon]="" [work]="$here" [conf]="" [systems]="" [seeds]="")
stages=(corpus lang features lms mono tri sat align teachers posteriors students graphs decode results ablation lfmmi)
goal=results
about+=([corpus]="Lhotse manifests of the training and dev sets" [lms]="3-gram for the graph, 4-gram for rescoring")
train=train_clean_5 dev=dev_clean_2 lms=(3gram 4gram) graphs=(phone 3gram)
recipe_options "$@"
held_out="data/$dev" test_options=()
if [[ -n "${opt[test]}" ]]; then tests=(test) held_out+=,data/test test_options=(--test "${opt[test]}"); fi

corpus() {
  find_corpus
  run local/librispeech/prepare_data.sh --config corpus "${test_options[@]}" "$(recorded data/source/corpus)" data
}

lang() {
  run steps/prepare_lm_text.sh --config lm_text --exclude "$held_out" "$(recorded data/source/lm_text)" data/lm_text
  run steps/prepare_lang.sh --config lang --align-data "data/$dev" "$(recorded data/source/lexicon)" data/lm_text "data/$train" data/lang
}

note() { recorded data/source/name; }

recipe_run
