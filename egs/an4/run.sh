#!/bin/bash -p
# AN4 (42 minutes of spelt words, numbers and commands) -> table of error rates. Everything is tuned on held-out training speakers.
set -euo pipefail
here="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "$here/path.sh"
source "$here/cmd.sh"
source "$KD_ROOT/utils/recipe.sh"
source "$KD_ROOT/utils/stages.sh"
source "$KD_ROOT/local/an4/find_corpus.sh"

usage() {
  cat <<'TEXT'
usage: egs/an4/run.sh [options]
  --corpus DIR       AN4's folder, which holds etc and wav; audio as sphere, wav or flac (default: it is downloaded)
  --tiny             small models and few updates: minutes; without --corpus on a synthetic corpus in AN4's format
  --work DIR         where data/ and exp/ go (default: this recipe's folder)
  --conf DIR         YAML files with options of the steps: NAME.yaml overrides conf/NAME.yaml
  --systems A,B|all  students to train and decode: names of conf/student_NAME.yaml (default: ce,mtl,li,hmt; with
                     --tiny all); with --stage ablation those of conf/ablation.yaml (default: all)
  --seeds 0,1        with --stage ablation: only these seeds; the table holds all that exist
TEXT
  recipe_usage
}

opt=([tiny]=false [corpus]="" [work]="$here" [conf]="" [systems]="" [seeds]="")
stages=(corpus lang features lms mono tri sat align teachers posteriors students graphs decode results ablation)
goal=results
about+=([corpus]="Lhotse manifests; held-out training speakers apart" [lang]="lexicon, topology, subwords; LM text from transcripts")
train=train dev=dev tests=(test) lms=(word) graphs=(word)
recipe_options "$@"

corpus() {
  find_corpus
  run local/an4/prepare_data.sh --config corpus "$(recorded data/source/corpus)" data
  run steps/split_set.sh --config split data/train_all data/train data/dev
}

lang() {
  run steps/prepare_lm_text.sh --config lm_text data/train data/lm_text
  run steps/prepare_lang.sh --config lang --align-data data/dev "$(recorded data/source/lexicon)" data/lm_text data/train data/lang
}

note() { recorded data/source/name; }

recipe_run
