#!/bin/bash -p
# AN4 (42 minutes of spelt words, numbers and commands) -> table of error rates. Everything is tuned on held-out training speakers.
set -euo pipefail
here="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "$here/path.sh"
source "$here/cmd.sh"
source "$KD_ROOT/utils/recipe.sh"

usage() {
  cat <<'TEXT'
usage: egs/an4/run.sh [options]
  --corpus DIR       AN4's folder, which holds etc and wav; audio as sphere, wav or flac (default: it is downloaded)
  --tiny             small models and few updates: minutes; without --corpus on a made-up corpus of AN4's form
  --work DIR         where data/ and exp/ go (default: this recipe's folder)
  --conf DIR         options of the steps (default: conf/, with --tiny conf/tiny/)
  --systems A,B      } with --stage ablation: train and decode these alone (default: all of conf/ablation.yaml);
  --seeds 0,1        } the table holds all that there are
TEXT
  recipe_usage
}

opt=([tiny]=false [corpus]="" [work]="$here" [conf]="" [systems]="" [seeds]="")
stages=(corpus lang features lms mono tri sat align teachers posteriors students graphs decode results ablation)
goal=results
about=(
  [corpus]="Lhotse manifests; held-out training speakers apart" [lang]="lexicon, topology, subwords; LM text from transcripts"
  [features]="MFCC for the GMMs, filterbanks for the students" [lms]="word n-gram"
  [mono]="flat-start monophone GMM and its alignment"         [tri]="decision tree and triphone GMM"
  [sat]="LDA + MLLT, then speaker-adapted triphone GMM"       [align]="senone alignments of train and dev"
  [teachers]="LMs over senones, phones and subwords"
  [posteriors]="their posteriors on disk"                     [students]="CE, multi-task, interpolation, distillation"
  [graphs]="decoding graphs"                                  [decode]="dev, then test with dev's scales"
  [results]="results.json, RESULTS.md"                        [ablation]="only when named: hours; ABLATION.md, report"
)
recipe_options "$@"
for name in corpus work conf; do
  if [[ -n "${opt[$name]}" ]]; then opt[$name]="$(absolute "${opt[$name]}")"; fi
done
data="${opt[work]}/data" exp="${opt[work]}/exp" conf="$here/conf"
if [[ "${opt[tiny]}" == true ]]; then conf="$here/conf/tiny"; fi
conf="${opt[conf]:-$conf}"
gmms=(mono tri sat)
units=senone,phone,subword
systems=ce,mtl,li,hmt
target=sat  # the GMM that the students learn from
cd "$KD_ROOT"

corpus() {
  local corpus
  local/an4/find_corpus.sh "${opt[tiny]}" "${opt[corpus]}" "$data/source"
  corpus="$(recorded "$data/source/corpus")"
  local/an4/prepare_data.sh --nj "${opt[nj]}" --config "$conf/corpus.yaml" "$corpus" "$data"
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
  local corpus words=(egs/an4/run.sh)
  corpus="$(recorded "$data/source/name")"
  if [[ "${opt[tiny]}" == true ]]; then words+=(--tiny); fi
  if [[ -n "${opt[corpus]}" ]]; then words+=(--corpus "${opt[corpus]##*/}"); fi
  steps/collect_results.sh --command "${words[*]}" --note "Corpus: $corpus." "$exp" "${opt[work]}/RESULTS.md"
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
