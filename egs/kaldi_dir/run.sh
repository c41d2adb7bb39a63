#!/usr/bin/env bash
# Any corpus in Kaldi's form -> table of error rates. Everything is tuned on held-out training speakers; stages as in egs/an4.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/path.sh"
source "$here/cmd.sh"
source "$KD_ROOT/utils/recipe.sh"

usage() {
  cat <<'TEXT'
usage: egs/kaldi_dir/run.sh --train DIR --test DIR --lexicon FILE [options]
  --tiny             small models, for a first look; without --train on an embedded corpus that is put into Kaldi's form
  --train DIR        Kaldi data folders: wav.scp, text, utt2spk; segments, spk2utt, reco2dur, utt2dur where there are
  --test DIR         the set that is reported; nothing is chosen on it
  --dev DIR          the set that everything is tuned on (default: a tenth of the training speakers, held out)
  --lexicon FILE     CMUdict, Sphinx dictionary or Kaldi's lexicon.txt or lexiconp.txt
  --lm-text FILE     LM text, a sentence a line, may be gzipped (default: the training transcripts)
  --relative-to DIR  folder that relative paths in wav.scp count from (default: where you stand, as in Kaldi)
  --allow-pipes      run wav.scp's commands; 'flac -c -d -s FILE |', 'sph2pipe -f wav FILE |' are read without that
  --sample-rate N    of the features (default: 16000, or 8000 when a training recording has less than 16000)
  --work DIR         where data/ and exp/ go (default: this recipe's folder)
  --conf DIR         options of the steps, a YAML file each; files that it lacks are taken from conf/
TEXT
  recipe_usage
}

opt=([tiny]=false [train]="" [test]="" [dev]="" [lexicon]="" [lm-text]="" [relative-to]="$PWD" [allow-pipes]=false [sample-rate]=""
  [work]="$here" [conf]="")
stages=(corpus lang features lms mono tri graphs decode results)
about=(
  [corpus]="Lhotse manifests; held-out training speakers apart" [lang]="lexicon, topology; LM text"
  [features]="MFCC for the GMMs, filterbanks for the students" [lms]="word n-gram"
  [mono]="flat-start monophone GMM and its alignment"         [tri]="decision tree and triphone GMM"
  [graphs]="decoding graphs"                                  [decode]="decoding and scoring; scales from dev for test"
  [results]="results.json, RESULTS.md"
)
recipe_options "$@"
for name in train test dev lexicon lm-text relative-to work conf; do
  if [[ -n "${opt[$name]}" ]]; then opt[$name]="$(absolute "${opt[$name]}")"; fi
done
data="${opt[work]}/data" exp="${opt[work]}/exp" source="${opt[work]}/data/source" sample=false
if [[ "${opt[tiny]}" == true ]]; then
  opt[conf]="${opt[conf]:-$here/conf/tiny}"
  if [[ -z "${opt[train]}${opt[test]}${opt[lexicon]}" ]]; then
    sample=true
    opt+=([train]="$source/kaldi_train" [test]="$source/kaldi_test" [lexicon]="$source/embedded/lexicon.txt")
  fi
fi
for name in train test lexicon; do
  [[ -n "${opt[$name]}" || "${opt[list-stages]}" == true ]] || die 2 "--$name is missing; --help lists the options"
done
[[ -z "${opt[dev]}" || "${opt[dev]}" != "${opt[test]}" ]] || die 2 "--dev and --test are both ${opt[dev]}: nothing may be chosen on the test set"
cd "$KD_ROOT"

conf() {  # conf NAME: the options of a step
  if [[ -f "${opt[conf]}/$1.yaml" ]]; then echo "${opt[conf]}/$1.yaml"; else echo "$here/conf/$1.yaml"; fi
}

import() {  # import KALDI_DIR DATA_DIR [OPTION ...]
  utils/import_kaldi_data.sh --nj "${opt[nj]}" --config "$(conf import)" --relative-to "${opt[relative-to]}" \
    --allow-pipes "${opt[allow-pipes]}" "${@:3}" "$1" "$2"
}

corpus() {
  if [[ "$sample" == true ]]; then
    local/librispeech/make_embedded.sh --nj "${opt[nj]}" "$source/embedded"
    local/librispeech/prepare_data.sh --nj "${opt[nj]}" "$source/embedded" "$source"
    utils/export_kaldi_data.sh "$source/train_clean_5" "${opt[train]}"
    utils/export_kaldi_data.sh "$source/dev_clean_2" "${opt[test]}"
  fi
  if [[ -n "${opt[dev]}" ]]; then
    import "${opt[train]}" "$data/train"
    import "${opt[dev]}" "$data/dev" --apart-from "$data/train"
    import "${opt[test]}" "$data/test" --apart-from "$data/train"
  else
    import "${opt[train]}" "$data/train_all"
    steps/split_set.sh --config "$(conf split)" "$data/train_all" "$data/train" "$data/dev"
    import "${opt[test]}" "$data/test" --apart-from "$data/train_all"
  fi
}

lang() {
  steps/prepare_lm_text.sh --config "$(conf lm_text)" "${opt[lm-text]:-$data/train}" "$data/lm_text"
  steps/prepare_lang.sh --nj "${opt[nj]}" --config "$(conf lang)" --align-data "$data/dev" "${opt[lexicon]}" "$data/lm_text" "$data/train" "$data/lang"
}

features() {
  local set kind rate=()
  if [[ -n "${opt[sample-rate]}" ]]; then rate=(--sample-rate "${opt[sample-rate]}"); fi
  for set in train dev test; do
    kind=fbank
    if [[ "$set" == train ]]; then kind=fbank_train; fi
    steps/extract_features.sh --nj "${opt[nj]}" --config "$(conf mfcc)" "${rate[@]}" "$data/$set" "$data/$set/mfcc"
    steps/extract_features.sh --nj "${opt[nj]}" --config "$(conf "$kind")" "${rate[@]}" "$data/$set" "$data/$set/fbank"
    if [[ -z "${opt[sample-rate]}" ]]; then rate=(--like "$data/train/mfcc"); fi
  done
}

lms() {
  steps/train_ngram.sh --config "$(conf lm_word)" "$data/lm_text" "$data/lang" "$data/dev" "$data/lm_word"
}

mono() {
  steps/train_mono.sh --nj "${opt[nj]}" --config "$(conf mono)" "$data/train/mfcc" "$data/lang" "$exp/mono"
  steps/align.sh --nj "${opt[nj]}" "$data/train/mfcc" "$data/lang" "$exp/mono" "$exp/mono/ali_train"
}

tri() {
  steps/train_tri.sh --nj "${opt[nj]}" --config "$(conf tri)" "$data/train/mfcc" "$data/lang" "$exp/mono/ali_train" "$exp/tri"
}

graphs() {
  for gmm in mono tri; do
    steps/make_graph.sh "$data/lang" "$data/lm_word" "$exp/$gmm" "$exp/$gmm/graph_word"
  done
}

decode() {
  for gmm in mono tri; do
    steps/decode.sh --nj "${opt[nj]}" --config "$(conf decode_word)" \
      "$exp/$gmm" "$data/dev/mfcc" "$exp/$gmm/graph_word" "$data/lang" "$exp/$gmm/decode_dev_word"
    steps/decode.sh --nj "${opt[nj]}" --config "$(conf decode_word)" --scales-from "$exp/$gmm/decode_dev_word" \
      "$exp/$gmm" "$data/test/mfcc" "$exp/$gmm/graph_word" "$data/lang" "$exp/$gmm/decode_test_word"
  done
}

results() {
  local name note="Corpus: Kaldi folders of the user's." words=(egs/kaldi_dir/run.sh)
  if [[ "$sample" == true ]]; then note="Corpus: embedded, synthesised by espeak-ng."; fi
  if [[ "${opt[tiny]}" == true ]]; then words+=(--tiny); fi
  for name in train test dev lexicon lm-text; do
    if [[ "$sample" == false && -n "${opt[$name]}" ]]; then words+=("--$name" "${opt[$name]##*/}"); fi
  done
  steps/collect_results.sh --command "${words[*]}" --note "$note" "$exp" "${opt[work]}/RESULTS.md"
}

recipe_run
