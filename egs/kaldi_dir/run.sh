#!/bin/bash -p
# Any corpus in Kaldi's form -> table of error rates. Everything is tuned on held-out training speakers; stages as in egs/an4.
set -euo pipefail
here="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
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
  --conf DIR         options of the steps, as in conf/, which has them for one to ten hours of speech (with --tiny conf/tiny/)
TEXT
  recipe_usage
}

opt=([tiny]=false [train]="" [test]="" [dev]="" [lexicon]="" [lm-text]="" [relative-to]="$PWD" [allow-pipes]=false [sample-rate]=""
  [work]="$here" [conf]="" [systems]="" [seeds]="")
stages=(corpus lang features lms mono tri sat align teachers posteriors students graphs decode results ablation)
goal=results
about=(
  [corpus]="Lhotse manifests; held-out training speakers apart" [lang]="LM text, lexicon with G2P, topology, subwords"
  [features]="MFCC for the GMMs, filterbanks for the students" [lms]="word n-gram"
  [mono]="flat-start monophone GMM and its alignment"         [tri]="decision tree and triphone GMM"
  [sat]="LDA + MLLT, then speaker-adapted triphone GMM"       [align]="senone alignments of train and dev"
  [teachers]="LMs over senones, phones and subwords"
  [posteriors]="their posteriors on disk"                     [students]="CE, multi-task, interpolation, distillation"
  [graphs]="decoding graphs"                                  [decode]="dev, then test with dev's scales"
  [results]="results.json, RESULTS.md"                        [ablation]="only when named: hours; ABLATION.md, report"
)
recipe_options "$@"
for name in train test dev lexicon lm-text relative-to work conf; do
  if [[ -n "${opt[$name]}" ]]; then opt[$name]="$(absolute "${opt[$name]}")"; fi
done
data="${opt[work]}/data" exp="${opt[work]}/exp" conf="$here/conf" source="${opt[work]}/data/source" sample=false
if [[ "${opt[tiny]}" == true ]]; then
  conf="$here/conf/tiny"
  if [[ -z "${opt[train]}${opt[test]}${opt[lexicon]}" ]]; then
    sample=true
    opt+=([train]="$source/kaldi_train" [test]="$source/kaldi_test" [lexicon]="$source/embedded/lexicon.txt")
  fi
fi
for name in train test lexicon; do
  [[ -n "${opt[$name]}" || "${opt[list-stages]}" == true ]] || die 2 "--$name is missing; --help lists the options"
done
[[ -z "${opt[dev]}" || "${opt[dev]}" != "${opt[test]}" ]] || die 2 "--dev and --test are both ${opt[dev]}: nothing may be chosen on the test set"
conf="${opt[conf]:-$conf}"
import_conf="$conf/import.yaml"
if [[ ! -f "$import_conf" ]]; then import_conf="$here/conf/import.yaml"; fi  # another recipe's options have none
gmms=(mono tri sat)
units=senone,phone,subword
systems=ce,mtl,li,hmt
target=sat  # the GMM that the students learn from
cd "$KD_ROOT"

import() {  # import KALDI_DIR DATA_DIR [OPTION ...]
  utils/import_kaldi_data.sh --nj "${opt[nj]}" --config "$import_conf" --relative-to "${opt[relative-to]}" \
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
    steps/split_set.sh --config "$conf/split.yaml" "$data/train_all" "$data/train" "$data/dev"
    import "${opt[test]}" "$data/test" --apart-from "$data/train_all"
  fi
}

lang() {
  steps/prepare_lm_text.sh --config "$conf/lm_text.yaml" "${opt[lm-text]:-$data/train}" "$data/lm_text"
  steps/prepare_lang.sh --nj "${opt[nj]}" --config "$conf/lang.yaml" --align-data "$data/dev" "${opt[lexicon]}" "$data/lm_text" "$data/train" "$data/lang"
}

features() {
  local set kind rate=()
  if [[ -n "${opt[sample-rate]}" ]]; then rate=(--sample-rate "${opt[sample-rate]}"); fi
  for set in train dev test; do
    kind=fbank
    if [[ "$set" == train ]]; then kind=fbank_train; fi
    steps/extract_features.sh --nj "${opt[nj]}" --config "$conf/mfcc.yaml" "${rate[@]}" "$data/$set" "$data/$set/mfcc"
    steps/extract_features.sh --nj "${opt[nj]}" --config "$conf/$kind.yaml" "${rate[@]}" "$data/$set" "$data/$set/fbank"
    if [[ -z "${opt[sample-rate]}" ]]; then rate=(--like "$data/train/mfcc"); fi
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

sat() {
  steps/align.sh --nj "${opt[nj]}" "$data/train/mfcc" "$data/lang" "$exp/tri" "$exp/tri/ali_train"
  steps/train_lda_mllt.sh --nj "${opt[nj]}" --config "$conf/lda_mllt.yaml" "$data/train/mfcc" "$data/lang" "$exp/tri/ali_train" "$exp/lda_mllt"
  steps/align.sh --nj "${opt[nj]}" "$data/train/mfcc" "$data/lang" "$exp/lda_mllt" "$exp/lda_mllt/ali_train"
  steps/train_sat.sh --nj "${opt[nj]}" --config "$conf/sat.yaml" "$data/train/mfcc" "$data/lang" "$exp/lda_mllt/ali_train" "$exp/lda_mllt" "$exp/sat"
}

align() {
  local set
  for set in train dev; do
    steps/align.sh --nj "${opt[nj]}" --config "$conf/align.yaml" "$data/$set/mfcc" "$data/lang" "$exp/$target" "$exp/$target/ali_$set"
  done
}

teachers() {
  local sources=("$data/lm_text" "$data/lang" "$exp/$target" "$exp/$target/ali_train" "$exp/$target/ali_dev")
  utils/launch.sh --max-jobs "${opt[nj]}" --mem 4G UNIT=phone,subword "$exp/log/teacher_UNIT.log" \
    steps/train_teacher.sh --config "$conf/teacher_UNIT.yaml" "${sources[@]}" "$exp/teacher_UNIT"
  steps/train_teacher.sh --config "$conf/teacher_senone.yaml" --phone-teacher "$exp/teacher_phone" "${sources[@]}" "$exp/teacher_senone"
}

posteriors() {
  utils/launch.sh --max-jobs "${opt[nj]}" UNIT="$units" "$exp/log/posteriors_UNIT.log" \
    steps/dump_posteriors.sh --nj 1 --config "$conf/posteriors.yaml" "$data/lang" "$exp/teacher_UNIT" "$exp/$target/ali_train" "$exp/teacher_UNIT/post_train"
}

students() {
  utils/launch.sh --max-jobs "${opt[nj]}" --mem 3G SYS="$systems" "$exp/log/student_SYS.log" \
    steps/train_student.sh --config "$conf/student_SYS.yaml" --posts "$exp/teacher_senone/post_train,$exp/teacher_phone/post_train,$exp/teacher_subword/post_train" \
    "$data/train/fbank" "$exp/$target/ali_train" "$data/dev/fbank" "$exp/$target/ali_dev" "$exp/student_SYS"
}

graphs() {
  local gmm
  for gmm in "${gmms[@]}"; do
    steps/make_graph.sh "$data/lang" "$data/lm_word" "$exp/$gmm" "$exp/$gmm/graph_word"
  done
}

decode() {
  local system gmm kind models
  for system in "${gmms[@]}" student_{ce,mtl,li,hmt}; do
    gmm="$system" kind=mfcc models=gmm
    if [[ "$system" == student_* ]]; then gmm="$target" kind=fbank models=student; fi
    steps/decode.sh --nj "${opt[nj]}" --config "$conf/decode_$models.yaml" \
      "$exp/$system" "$data/dev/$kind" "$exp/$gmm/graph_word" "$data/lang" "$exp/$system/decode_dev_word"
    steps/decode.sh --nj "${opt[nj]}" --config "$conf/decode_$models.yaml" --scales-from "$exp/$system/decode_dev_word" \
      "$exp/$system" "$data/test/$kind" "$exp/$gmm/graph_word" "$data/lang" "$exp/$system/decode_test_word"
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

ablation() {
  local list="$exp/ablation/conf" lm set extra
  steps/plan_ablation.sh --systems "${opt[systems]}" --seeds "${opt[seeds]}" "$conf/ablation.yaml" "$exp" "$list"
  # All graphs first: hours of training should not end in a graph that fails.
  steps/make_graph.sh "$data/lang" "$data/lm_word" "$exp/$target" "$exp/$target/graph_word"
  steps/train_ngram.sh --config "$conf/lm_weak.yaml" "$data/lm_text" "$data/lang" "$data/dev" "$data/lm_weak"
  steps/make_graph.sh "$data/lang" "$data/lm_weak" "$exp/$target" "$exp/$target/graph_weak"
  steps/make_phone_graph.sh --order 0 "$data/lang" "$exp/$target/ali_train" "$exp/$target" "$exp/$target/graph_loop"
  steps/make_phone_graph.sh "$data/lang" "$exp/$target/ali_train" "$exp/$target" "$exp/$target/graph_phone"
  utils/launch.sh --max-jobs "${opt[nj]}" --mem 3G SYS=@"$list/names" "$exp/ablation/log/train_SYS.log" \
    steps/train_student.sh --config "$list/SYS.yaml" "$data/train/fbank" "$exp/$target/ali_train" "$data/dev/fbank" "$exp/$target/ali_dev" "$exp/ablation/SYS"
  steps/align.sh --nj "${opt[nj]}" --config "$conf/align.yaml" "$data/test/mfcc" "$data/lang" "$exp/$target" "$exp/$target/ali_test"
  for lm in loop phone weak word; do
    for set in dev test; do
      extra=(--config "$conf/decode_student.yaml")
      if [[ "$lm" == @(loop|phone) ]]; then extra=(--config "$conf/decode_phone.yaml" --ref-ali "$exp/$target/ali_$set"); fi
      if [[ "$set" == test ]]; then extra+=(--scales-from "$exp/ablation/SYS/decode_dev_$lm"); fi
      utils/launch.sh --max-jobs "${opt[nj]}" --mem 2G SYS=@"$list/names" "$exp/ablation/log/decode_${set}_${lm}_SYS.log" \
        steps/decode.sh --nj 1 "${extra[@]}" "$exp/ablation/SYS" "$data/$set/fbank" "$exp/$target/graph_$lm" "$data/lang" "$exp/ablation/SYS/decode_${set}_$lm"
    done
  done
  steps/collect_ablation.sh --command "${here#"$KD_ROOT"/}/run.sh --stage ablation" "$exp/ablation" "${opt[work]}/ABLATION.md"
  steps/make_report.sh --data "$data/dev" --feats "$data/dev/fbank" --ali "$exp/$target/ali_dev" --gmm "$exp/$target" --lang "$data/lang" "$exp/ablation/ablation.json" "$exp/report"
}

recipe_run
