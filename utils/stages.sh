# shellcheck shell=bash disable=SC2154 # opt, conf and the variables below are the recipe's
# The stages that recipes share, from features to tables.  Sourced by run.sh after utils/recipe.sh.
#
# In: set by a recipe.      train, dev    names of sets below data/
#     tests=(..)            sets reported with dev's scales; none: dev is reported, tuned on half of its speakers
#     lms=(GRAPH [FULL])    word LMs data/lm_NAME: in the decoding graph, and for rescoring its lattices
#     graphs=(..)           graphs for decoding: 'phone' (a phone bigram), names of LMs
#     gmms=(..) target      GMMs to decode; the one whose alignment the students learn from
#     systems=(..)          default students exp/student_NAME; --systems chooses others of conf/student_NAME.yaml
#     feature_options=(..)  further options of the feature step; same_rate=true: all sets at the training set's sampling rate
#     note()                a function that prints a description of the corpus, for the tables
# Out: everything in exp/. A stage's working folder is --work, so data/ and exp/ are below it.
# shellcheck disable=SC2034 # recipe.sh reads it
declare -A about=(
  [corpus]="Lhotse manifests"                                  [lang]="LM text, lexicon with G2P, topology, subwords"
  [features]="MFCC for the GMMs, filterbanks for the students" [lms]="word n-gram"
  [mono]="flat-start monophone GMM and its alignment"          [tri]="decision tree and triphone GMM"
  [sat]="LDA + MLLT, then speaker-adaptive training (fMLLR)"   [align]="senone alignments of train and dev"
  [teachers]="LMs over senones, phones and subwords"           [posteriors]="their posteriors on disk"
  [students]="CE, multi-task, interpolation, distillation"     [graphs]="decoding graphs"
  [decode]="decoding and scoring"                              [results]="results.json, RESULTS.md"
  [ablation]="only when named: hours; ABLATION.md, report"
)
declare -a tests=() systems=(ce mtl li hmt) gmms=(mono tri sat) feature_options=()
units=(senone phone subword) target=sat same_rate=false
printf -v posts ',exp/teacher_%s/post_train' "${units[@]}"
posts="${posts#,}"

joined() {  # joined WORD ..: join the words by commas
  local IFS=,
  printf '%s\n' "$*"
}

chosen_systems() {  # the students of --systems, or the recipe's; with --tiny all
  local name file names=()
  if [[ "${opt[tiny]}${opt[systems]}" == true || "${opt[systems]}" == all ]]; then
    names=("${systems[@]}")
    for file in "$KD_ROOT/utils/conf"/student_*.yaml "$conf"/student_*.yaml; do
      name="${file##*/student_}"
      [[ " ${names[*]} " == *" ${name%.yaml} "* ]] || names+=("${name%.yaml}")
    done
  elif [[ -z "${opt[systems]}" ]]; then
    names=("${systems[@]}")
  else
    IFS=, read -r -a names <<<"${opt[systems]}"
    for name in "${names[@]}"; do
      file="student_$name.yaml"
      [[ -f "$conf/$file" || -f "$KD_ROOT/utils/conf/$file" ]] || die 2 "--systems $name: no file $conf/$file; write it, or take other names"
    done
  fi
  joined "${names[@]}"
}

check_choice() {  # check_choice STAGE: report a wrong --systems before the first stage, not hours later
  [[ "$1" == ablation ]] || chosen_systems >/dev/null
}

features() {
  local set kind rate=("${feature_options[@]}")
  for set in "$train" "$dev" "${tests[@]}"; do
    kind=fbank
    if [[ "$set" == "$train" ]]; then kind=fbank_train; fi
    run steps/extract_features.sh --config mfcc "${rate[@]}" "data/$set" "data/$set/mfcc"
    run steps/extract_features.sh --config "$kind" "${rate[@]}" "data/$set" "data/$set/fbank"
    if [[ "$same_rate" == true ]]; then rate=(--like "data/$train/mfcc"); fi
  done
}

lms() {
  local lm
  for lm in "${lms[@]}"; do
    run steps/train_ngram.sh --config "lm_$lm" data/lm_text data/lang "data/$dev" "data/lm_$lm"
  done
}

mono() {
  run steps/train_mono.sh --config mono "data/$train/mfcc" data/lang exp/mono
  run steps/align.sh "data/$train/mfcc" data/lang exp/mono exp/mono/ali_train
}

tri() {
  run steps/train_tri.sh --config tri "data/$train/mfcc" data/lang exp/mono/ali_train exp/tri
}

sat() {
  run steps/align.sh "data/$train/mfcc" data/lang exp/tri exp/tri/ali_train
  run steps/train_lda_mllt.sh --config lda_mllt "data/$train/mfcc" data/lang exp/tri/ali_train exp/lda_mllt
  run steps/align.sh "data/$train/mfcc" data/lang exp/lda_mllt exp/lda_mllt/ali_train
  run steps/train_sat.sh --config sat "data/$train/mfcc" data/lang exp/lda_mllt/ali_train exp/lda_mllt exp/sat
}

align() {
  run steps/align.sh --config align "data/$train/mfcc" data/lang "exp/$target" "exp/$target/ali_train"
  run steps/align.sh --config align "data/$dev/mfcc" data/lang "exp/$target" "exp/$target/ali_dev"
  if [[ " ${graphs[*]} " == *" phone "* ]]; then align_tests; fi
}

align_tests() {  # for reference phones
  local name
  for name in "${tests[@]}"; do
    run steps/align.sh --config align "data/$name/mfcc" data/lang "exp/$target" "exp/$target/ali_$name"
  done
}

teachers() {
  local from=(data/lm_text data/lang "exp/$target" "exp/$target/ali_train" "exp/$target/ali_dev")
  each UNIT=phone,subword --mem 4G exp/log/teacher_UNIT.log \
    steps/train_teacher.sh --config teacher_UNIT "${from[@]}" exp/teacher_UNIT
  run steps/train_teacher.sh --config teacher_senone --phone-teacher exp/teacher_phone "${from[@]}" exp/teacher_senone
}

posteriors() {
  each UNIT="$(joined "${units[@]}")" exp/log/posteriors_UNIT.log \
    steps/dump_posteriors.sh --nj 1 --config posteriors data/lang exp/teacher_UNIT "exp/$target/ali_train" exp/teacher_UNIT/post_train
}

students() {
  local chosen
  chosen="$(chosen_systems)"
  each SYS="$chosen" --mem 3G exp/log/student_SYS.log \
    steps/train_student.sh --config student_ce --config student_SYS --posts "$posts" \
    "data/$train/fbank" "exp/$target/ali_train" "data/$dev/fbank" "exp/$target/ali_dev" exp/student_SYS
}

graph() {  # graph NAME GMM: a decoding graph over the GMM's senones
  case "$1" in
    loop) run steps/make_phone_graph.sh --config graph_phone --order 0 data/lang "exp/$target/ali_train" "exp/$2" "exp/$2/graph_loop" ;;
    phone) run steps/make_phone_graph.sh --config graph_phone data/lang "exp/$target/ali_train" "exp/$2" "exp/$2/graph_phone" ;;
    *) run steps/make_graph.sh data/lang "data/lm_$1" "exp/$2" "exp/$2/graph_$1" ;;
  esac
}

graphs() {
  local gmm name
  for gmm in "${gmms[@]}"; do
    for name in "${graphs[@]}"; do graph "$name" "$gmm"; done
  done
}

decoding() {  # decoding GRAPH SET gmm|student SYSTEM_FOLDER GMM: sets `how` (options) and `set_dir`; SET is dev or one of `tests`
  how=(--config "decode_$3" --graph "exp/$5/graph_$1") set_dir="data/$2"
  case "$1" in
    loop | phone) how=(--config decode_phone --graph "exp/$5/graph_$1" --ref-ali "exp/$target/ali_$2") ;;
    "${lms[0]}") if [[ -n "${lms[1]:-}" ]]; then how+=(--rescore-lm "data/lm_${lms[1]}"); fi ;;
  esac
  if [[ "$2" == dev ]]; then set_dir="data/$dev"; else how+=(--scales-from "$4/decode_dev_$1"); fi
}

decode() {
  local system name set how set_dir chosen
  chosen="$(chosen_systems)"
  for system in "${gmms[@]}"; do
    for name in "${graphs[@]}"; do
      for set in dev "${tests[@]}"; do
        decoding "$name" "$set" gmm "exp/$system" "$system"
        run steps/decode.sh "${how[@]}" "exp/$system" "$set_dir/mfcc" data/lang "exp/$system/decode_${set}_$name"
      done
    done
  done
  decode_students SYS="$chosen" exp/log exp/student_SYS "${graphs[@]}"
}

decode_students() {  # decode_students SYS=VALUES LOGS SYSTEM_FOLDER GRAPH ..: decode students in parallel
  local name set how set_dir
  for name in "${@:4}"; do
    for set in dev "${tests[@]}"; do
      decoding "$name" "$set" student "$3" "$target"
      each "$1" --mem 2G "$2/decode_${set}_${name}_SYS.log" \
        steps/decode.sh --nj 1 "${how[@]}" "$3" "$set_dir/fbank" data/lang "$3/decode_${set}_$name"
    done
  done
}

decode_pooled() {  # decode_pooled PLAN GRAPH ..: as decode_students, all of the ablation at one point per graph, chosen on all of them
  local name set student how set_dir pool folders sets=(dev "${tests[@]}")
  local -a tests=()
  decode_students SYS=@"$1/names" exp/ablation/log exp/ablation/SYS "${@:2}"
  for name in "${@:2}"; do
    pool="exp/ablation/scales/$name" folders=()
    while IFS= read -r student; do  # those of earlier calls, too: they are in the table
      if [[ -d "exp/ablation/$student/decode_dev_$name" ]] || grep -qxF -- "$student" "$1/names"; then
        folders+=("exp/ablation/$student/decode_dev_$name")
      fi
    done <"$1/pooled"
    run steps/pool_scales.sh "${folders[@]}" "$pool"
    for set in "${sets[@]}"; do
      decoding "$name" "$set" student exp/ablation/SYS "$target"
      # Of two --scales-from the last one counts.
      if [[ "$set" == dev ]]; then how+=(--candidates-from "exp/ablation/SYS/decode_dev_$name"); fi
      each SYS=@"$1/names" --mem 2G "exp/ablation/log/pooled_${set}_${name}_SYS.log" \
        steps/decode.sh --nj 1 "${how[@]}" --scales-from "$pool" exp/ablation/SYS "$set_dir/fbank" data/lang "exp/ablation/SYS/pooled_${set}_$name"
    done
  done
}

results() {
  run steps/collect_results.sh --command "$(shown_command)" --note "Corpus: $(note)." exp RESULTS.md
}

masked_teachers() {  # for the ablation: teachers that read both sides
  local from=(data/lm_text data/lang "exp/$target" "exp/$target/ali_train" "exp/$target/ali_dev") unit more
  for unit in phone subword senone; do
    more=(--teachers "exp/teacher_$unit")
    if [[ "$unit" == senone ]]; then more=(--phone-teacher exp/teacher_phone_masked); fi
    run steps/train_teacher.sh --config "teacher_${unit}_masked" "${more[@]}" "${from[@]}" "exp/teacher_${unit}_masked"
    run steps/dump_posteriors.sh --config posteriors data/lang "exp/teacher_${unit}_masked" "exp/$target/ali_train" "exp/teacher_${unit}_masked/post_train"
  done
}

ablation() {
  local list=exp/ablation/conf name all=(loop phone weak "${lms[0]}") plan="$conf/ablation.yaml"
  if [[ "${opt[tiny]}" == true ]]; then plan="$conf/tiny.yaml:ablation"; fi
  run steps/plan_ablation.sh --systems "${opt[systems]}" --seeds "${opt[seeds]}" "$plan" exp "$list"
  # Make all graphs first: a failing graph should not come after hours of training.
  run steps/train_ngram.sh --config lm_weak data/lm_text data/lang "data/$dev" data/lm_weak
  for name in "${all[@]}"; do graph "$name" "$target"; done
  align_tests
  if [[ -f "$conf/teacher_phone_masked.yaml" ]] && { [[ ! -f "$list/teachers" ]] || [[ "$(<"$list/teachers")" == *_masked* ]]; }; then masked_teachers; fi
  each SYS=@"$list/names" --mem 3G exp/ablation/log/train_SYS.log \
    steps/train_student.sh --config "$list/SYS.yaml" "data/$train/fbank" "exp/$target/ali_train" "data/$dev/fbank" "exp/$target/ali_dev" exp/ablation/SYS
  if [[ -f "$list/pooled" ]]; then
    decode_pooled "$list" "${all[@]}"
  else
    decode_students SYS=@"$list/names" exp/ablation/log exp/ablation/SYS "${all[@]}"
  fi
  run steps/collect_ablation.sh --command "$(shown_command --stage ablation)" --note "Corpus: $(note)." exp/ablation ABLATION.md
  run steps/make_report.sh --data "data/$dev" --feats "data/$dev/fbank" --ali "exp/$target/ali_dev" --gmm "exp/$target" --lang data/lang \
    exp/ablation/ablation.json exp/report
}
