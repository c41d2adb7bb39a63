#!/usr/bin/env bash
# AN4 (42 minutes of spelt words, numbers and commands) -> table of error rates. Everything is tuned on held-out training speakers.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/path.sh"
source "$here/cmd.sh"
source "$KD_ROOT/utils/recipe.sh"

usage() {
  cat <<'TEXT'
usage: egs/an4/run.sh [options]
  --corpus DIR       AN4's folder, which holds etc and wav; audio as sphere, wav or flac
  --work DIR         where data/ and exp/ go (default: this recipe's folder)
  --conf DIR         options of the steps (default: conf/)
TEXT
  recipe_usage
}

opt=([corpus]="" [work]="$here" [conf]="$here/conf")
stages=(corpus lang features lms mono tri graphs decode results)
about=(
  [corpus]="Lhotse manifests; held-out training speakers apart" [lang]="lexicon, topology; LM text from the training transcripts"
  [features]="MFCC for the GMMs, filterbanks for the students" [lms]="word n-gram"
  [mono]="flat-start monophone GMM and its alignment"         [tri]="decision tree and triphone GMM"
  [graphs]="decoding graphs"                                  [decode]="decoding and scoring; scales from dev for test"
  [results]="results.json, RESULTS.md"
)
recipe_options "$@"
for name in corpus work conf; do
  if [[ -n "${opt[$name]}" ]]; then opt[$name]="$(absolute "${opt[$name]}")"; fi
done
data="${opt[work]}/data" exp="${opt[work]}/exp" conf="${opt[conf]}"
cd "$KD_ROOT"

corpus() {
  local/an4/find_corpus.sh "${opt[corpus]}" "$data/source"
  local/an4/prepare_data.sh --nj "${opt[nj]}" --config "$conf/corpus.yaml" "$(recorded "$data/source/corpus")" "$data"
  steps/split_set.sh --config "$conf/split.yaml" "$data/train_all" "$data/train" "$data/dev"
}

lang() {
  local lexicon
  lexicon="$(recorded "$data/source/lexicon")"
  steps/prepare_lm_text.sh --config "$conf/lm_text.yaml" "$data/train" "$data/lm_text"
  steps/prepare_lang.sh --nj "${opt[nj]}" --config "$conf/lang.yaml" --align-data "$data/dev" "$lexicon" "$data/lm_text" "$data/train" "$data/lang"
}

features() {
  local set kind
  for set in train dev test; do
    kind=fbank
    if [[ "$set" == train ]]; then kind=fbank_train; fi
    steps/extract_features.sh --nj "${opt[nj]}" --config "$conf/mfcc.yaml" "$data/$set" "$data/$set/mfcc"
    steps/extract_features.sh --nj "${opt[nj]}" --config "$conf/$kind.yaml" "$data/$set" "$data/$set/fbank"
  done
}

lms() {
  steps/train_ngram.sh --config "$conf/lm_word.yaml" "$data/lm_text" "$data/lang" "$data/dev" "$data/lm_word"
}

mono() {
  steps/train_mono.sh --nj "${opt[nj]}" --config "$conf/mono.yaml" "$data/train/mfcc" "$data/lang" "$exp/mono"
  steps/align.sh --nj "${opt[nj]}" "$data/train/mfcc" "$data/lang" "$exp/mono" "$exp/mono/ali_train"
}

tri() {
  steps/train_tri.sh --nj "${opt[nj]}" --config "$conf/tri.yaml" "$data/train/mfcc" "$data/lang" "$exp/mono/ali_train" "$exp/tri"
}

graphs() {
  for gmm in mono tri; do
    steps/make_graph.sh "$data/lang" "$data/lm_word" "$exp/$gmm" "$exp/$gmm/graph_word"
  done
}

decode() {
  for gmm in mono tri; do
    steps/decode.sh --nj "${opt[nj]}" --config "$conf/decode_word.yaml" \
      "$exp/$gmm" "$data/dev/mfcc" "$exp/$gmm/graph_word" "$data/lang" "$exp/$gmm/decode_dev_word"
    steps/decode.sh --nj "${opt[nj]}" --config "$conf/decode_word.yaml" --scales-from "$exp/$gmm/decode_dev_word" \
      "$exp/$gmm" "$data/test/mfcc" "$exp/$gmm/graph_word" "$data/lang" "$exp/$gmm/decode_test_word"
  done
}

results() {
  local words=(egs/an4/run.sh)
  if [[ -n "${opt[corpus]}" ]]; then words+=(--corpus "${opt[corpus]##*/}"); fi
  steps/collect_results.sh --command "${words[*]}" --note "Corpus: $(recorded "$data/source/name")." "$exp" "${opt[work]}/RESULTS.md"
}

recipe_run
