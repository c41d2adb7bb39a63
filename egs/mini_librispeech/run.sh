#!/bin/bash -p
# LibriSpeech-style corpus -> table of error rates: GMMs, cross-entropy, label interpolation, hierarchical distillation.
set -euo pipefail
here="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "$here/path.sh"
source "$here/cmd.sh"
source "$KD_ROOT/utils/recipe.sh"

usage() {
  cat <<'TEXT'
usage: egs/mini_librispeech/run.sh [options]
  --tiny             small models and few updates: minutes, for a first look and for tests
  --corpus DIR       folder in LibriSpeech's layout with train-clean-5 and dev-clean-2 (default: OpenSLR 31 is
                     downloaded; with --tiny alone an embedded corpus is synthesised)
  --lm-text FILE     LM text, a sentence a line, may be gzipped   } needed with --corpus; the word 'openslr'
  --lexicon FILE     CMUdict or LibriSpeech lexicon               } downloads them (OpenSLR 11)
  --work DIR         where data/ and exp/ go (default: this recipe's folder)
  --systems A,B      } with --stage ablation: train and decode these alone (default: all of conf/ablation.yaml);
  --seeds 0,1        } the table holds all that there are
TEXT
  recipe_usage
}

opt=([tiny]=false [corpus]="" [lm-text]="" [lexicon]="" [work]="$here" [systems]="" [seeds]="")
stages=(corpus lang features lms mono tri sat align teachers posteriors students graphs decode results ablation)
goal=results
about=(
  [corpus]="Lhotse manifests of the training and dev sets"    [lang]="LM text, lexicon with G2P, topology, subwords"
  [features]="MFCC for the GMMs, filterbanks for the students" [lms]="3-gram for the graph, 4-gram for rescoring"
  [mono]="flat-start monophone GMM and its alignment"         [tri]="decision tree and triphone GMM"
  [sat]="LDA + MLLT, then speaker-adaptive training (fMLLR)"
  [align]="senone alignments of both sets, speaker-adapted"   [teachers]="LMs over senones, phones and subwords"
  [posteriors]="their posteriors on disk"                     [students]="CE, multi-task, interpolation, distillation"
  [graphs]="decoding graphs"                                  [decode]="decoding and scoring"
  [results]="results.json, RESULTS.md"                        [ablation]="only when named: hours; ABLATION.md, report"
)
recipe_options "$@"
for name in corpus lm-text lexicon work; do
  if [[ -n "${opt[$name]}" && "${opt[$name]}" != openslr ]]; then opt[$name]="$(absolute "${opt[$name]}")"; fi
done
data="${opt[work]}/data" exp="${opt[work]}/exp" conf="$here/conf"
if [[ "${opt[tiny]}" == true ]]; then conf="$here/conf/tiny"; fi
units=senone,phone,subword
systems=ce,mtl,li,hmt
cd "$KD_ROOT"

corpus() {
  local corpus
  local/librispeech/find_corpus.sh "${opt[tiny]}" "${opt[corpus]}" "${opt[lm-text]}" "${opt[lexicon]}" "$data/source"
  corpus="$(recorded "$data/source/corpus")"
  local/librispeech/prepare_data.sh --config "$conf/corpus.yaml" "$corpus" "$data"
}

lang() {
  local lm_text lexicon
  lm_text="$(recorded "$data/source/lm_text")"
  lexicon="$(recorded "$data/source/lexicon")"
  steps/prepare_lm_text.sh --config "$conf/lm_text.yaml" --exclude "$data/dev_clean_2" "$lm_text" "$data/lm_text"
  steps/prepare_lang.sh --nj "${opt[nj]}" --config "$conf/lang.yaml" --align-data "$data/dev_clean_2" "$lexicon" "$data/lm_text" "$data/train_clean_5" "$data/lang"
}

features() {
  for set in train_clean_5 dev_clean_2; do
    steps/extract_features.sh --nj "${opt[nj]}" --config "$conf/mfcc.yaml" "$data/$set" "$data/$set/mfcc"
    steps/extract_features.sh --nj "${opt[nj]}" --config "$conf/fbank_$set.yaml" "$data/$set" "$data/$set/fbank"
  done
}

lms() {
  for n in 3 4; do
    steps/train_ngram.sh --config "$conf/lm_${n}gram.yaml" "$data/lm_text" "$data/lang" "$data/dev_clean_2" "$data/lm_${n}gram"
  done
}

mono() {
  steps/train_mono.sh --nj "${opt[nj]}" --config "$conf/mono.yaml" "$data/train_clean_5/mfcc" "$data/lang" "$exp/mono"
  steps/align.sh --nj "${opt[nj]}" "$data/train_clean_5/mfcc" "$data/lang" "$exp/mono" "$exp/mono/ali_train"
}

tri() {
  steps/train_tri.sh --nj "${opt[nj]}" --config "$conf/tri.yaml" "$data/train_clean_5/mfcc" "$data/lang" "$exp/mono/ali_train" "$exp/tri"
}

sat() {
  local train=("$data/train_clean_5/mfcc" "$data/lang")
  steps/align.sh --nj "${opt[nj]}" "${train[@]}" "$exp/tri" "$exp/tri/ali_train"
  steps/train_lda_mllt.sh --nj "${opt[nj]}" --config "$conf/lda_mllt.yaml" "${train[@]}" "$exp/tri/ali_train" "$exp/lda_mllt"
  steps/align.sh --nj "${opt[nj]}" "${train[@]}" "$exp/lda_mllt" "$exp/lda_mllt/ali_train"
  steps/train_sat.sh --nj "${opt[nj]}" --config "$conf/sat.yaml" "${train[@]}" "$exp/lda_mllt/ali_train" "$exp/lda_mllt" "$exp/sat"
}

align() {
  steps/align.sh --nj "${opt[nj]}" --config "$conf/align.yaml" "$data/train_clean_5/mfcc" "$data/lang" "$exp/sat" "$exp/sat/ali_train"
  steps/align.sh --nj "${opt[nj]}" --config "$conf/align.yaml" "$data/dev_clean_2/mfcc" "$data/lang" "$exp/sat" "$exp/sat/ali_dev"
}

teachers() {
  local sources=("$data/lm_text" "$data/lang" "$exp/sat" "$exp/sat/ali_train" "$exp/sat/ali_dev")
  utils/launch.sh --max-jobs "${opt[nj]}" --mem 4G UNIT=phone,subword "$exp/log/teacher_UNIT.log" \
    steps/train_teacher.sh --config "$conf/teacher_UNIT.yaml" "${sources[@]}" "$exp/teacher_UNIT"
  steps/train_teacher.sh --config "$conf/teacher_senone.yaml" --phone-teacher "$exp/teacher_phone" "${sources[@]}" "$exp/teacher_senone"
}

posteriors() {
  utils/launch.sh --max-jobs "${opt[nj]}" UNIT="$units" "$exp/log/posteriors_UNIT.log" \
    steps/dump_posteriors.sh --nj 1 --config "$conf/posteriors.yaml" "$data/lang" "$exp/teacher_UNIT" "$exp/sat/ali_train" "$exp/teacher_UNIT/post_train"
}

students() {
  utils/launch.sh --max-jobs "${opt[nj]}" --mem 3G SYS="$systems" "$exp/log/student_SYS.log" \
    steps/train_student.sh --config "$conf/student_SYS.yaml" --posts "$exp/teacher_senone/post_train,$exp/teacher_phone/post_train,$exp/teacher_subword/post_train" \
    "$data/train_clean_5/fbank" "$exp/sat/ali_train" "$data/dev_clean_2/fbank" "$exp/sat/ali_dev" "$exp/student_SYS"
}

graphs_of() {  # GMM
  steps/make_phone_graph.sh --config "$conf/graph_phone.yaml" "$data/lang" "$exp/sat/ali_train" "$exp/$1" "$exp/$1/graph_phone"
  steps/make_graph.sh "$data/lang" "$data/lm_3gram" "$exp/$1" "$exp/$1/graph_3gram"
}

graphs() {
  for gmm in mono tri sat; do graphs_of "$gmm"; done
}

decode() {
  local system gmm kind
  for system in mono tri sat student_{ce,mtl,li,hmt}; do
    gmm=sat kind=fbank
    case "$system" in mono | tri | sat) gmm="$system" kind=mfcc ;; esac
    steps/decode.sh --nj "${opt[nj]}" --config "$conf/decode_phone.yaml" --ref-ali "$exp/sat/ali_dev" \
      "$exp/$system" "$data/dev_clean_2/$kind" "$exp/$gmm/graph_phone" "$data/lang" "$exp/$system/decode_dev_phone"
    steps/decode.sh --nj "${opt[nj]}" --config "$conf/decode_word.yaml" --rescore-lm "$data/lm_4gram" \
      "$exp/$system" "$data/dev_clean_2/$kind" "$exp/$gmm/graph_3gram" "$data/lang" "$exp/$system/decode_dev_3gram"
  done
}

results() {
  local corpus name words=(egs/mini_librispeech/run.sh)
  corpus="$(recorded "$data/source/name")"
  if [[ "${opt[tiny]}" == true ]]; then words+=(--tiny); fi
  for name in corpus lm-text lexicon; do
    if [[ -n "${opt[$name]}" ]]; then words+=("--$name" "${opt[$name]##*/}"); fi
  done
  steps/collect_results.sh --command "${words[*]}" --note "Corpus: $corpus." "$exp" "${opt[work]}/RESULTS.md"
}

masked_teachers() {  # for the ablation: given the units on both sides
  local sources=("$data/lm_text" "$data/lang" "$exp/sat" "$exp/sat/ali_train" "$exp/sat/ali_dev") unit extra
  for unit in phone subword senone; do
    extra=(--teachers "$exp/teacher_$unit")
    if [[ "$unit" == senone ]]; then extra=(--phone-teacher "$exp/teacher_phone_masked"); fi
    steps/train_teacher.sh --config "$conf/teacher_${unit}_masked.yaml" "${extra[@]}" "${sources[@]}" "$exp/teacher_${unit}_masked"
    steps/dump_posteriors.sh --nj "${opt[nj]}" --config "$conf/posteriors.yaml" \
      "$data/lang" "$exp/teacher_${unit}_masked" "$exp/sat/ali_train" "$exp/teacher_${unit}_masked/post_train"
  done
}

ablation() {
  local list="$exp/ablation/conf" dev="$data/dev_clean_2/fbank" words=(egs/mini_librispeech/run.sh --stage ablation) corpus lm extra
  corpus="$(recorded "$data/source/name")"
  steps/plan_ablation.sh --systems "${opt[systems]}" --seeds "${opt[seeds]}" "$conf/ablation.yaml" "$exp" "$list"
  graphs_of sat  # all graphs first: hours of training should not end in a graph that fails
  steps/train_ngram.sh --config "$conf/lm_weak.yaml" "$data/lm_text" "$data/lang" "$data/dev_clean_2" "$data/lm_weak"
  steps/make_graph.sh "$data/lang" "$data/lm_weak" "$exp/sat" "$exp/sat/graph_weak"
  steps/make_phone_graph.sh --config "$conf/graph_phone.yaml" --order 0 "$data/lang" "$exp/sat/ali_train" "$exp/sat" "$exp/sat/graph_loop"
  if [[ ! -f "$list/teachers" ]] || [[ "$(<"$list/teachers")" == *_masked* ]]; then masked_teachers; fi
  utils/launch.sh --max-jobs "${opt[nj]}" --mem 3G SYS=@"$list/names" "$exp/ablation/log/train_SYS.log" \
    steps/train_student.sh --config "$list/SYS.yaml" "$data/train_clean_5/fbank" "$exp/sat/ali_train" "$dev" "$exp/sat/ali_dev" "$exp/ablation/SYS"
  for lm in loop phone weak 3gram; do
    case "$lm" in
      loop | phone) extra=(--config "$conf/decode_phone.yaml" --ref-ali "$exp/sat/ali_dev") ;;
      weak) extra=(--config "$conf/decode_word.yaml") ;;
      3gram) extra=(--config "$conf/decode_word.yaml" --rescore-lm "$data/lm_4gram") ;;
    esac
    utils/launch.sh --max-jobs "${opt[nj]}" --mem 2G SYS=@"$list/names" "$exp/ablation/log/decode_${lm}_SYS.log" \
      steps/decode.sh --nj 1 "${extra[@]}" "$exp/ablation/SYS" "$dev" "$exp/sat/graph_$lm" "$data/lang" "$exp/ablation/SYS/decode_dev_$lm"
  done
  if [[ "${opt[tiny]}" == true ]]; then words+=(--tiny); fi
  steps/collect_ablation.sh --command "${words[*]}" --note "Corpus: $corpus." "$exp/ablation" "${opt[work]}/ABLATION.md"
  steps/make_report.sh --data "$data/dev_clean_2" --feats "$dev" --ali "$exp/sat/ali_dev" --gmm "$exp/sat" --lang "$data/lang" "$exp/ablation/ablation.json" "$exp/report"
}

recipe_run
