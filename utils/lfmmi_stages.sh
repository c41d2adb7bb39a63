# shellcheck shell=bash disable=SC2154 # opt, train, target and the like are the recipe's
# A stage of recipes that train LF-MMI students: tree, alignment, denominator, students, graphs, decoding.  Sourced by run.sh after
# utils/stages.sh.
#
# In: what utils/stages.sh names.  Out: exp/chain (tree, ali_train, ali_dev, denominator, graphs), exp/student_lfmmi, exp/student_lfmmi_hmt.
# shellcheck disable=SC2034 # recipe.sh reads it
about+=([lfmmi]="only when named: LF-MMI students, own tree, graphs")
lfmmi_systems=(lfmmi lfmmi_hmt)

lfmmi() {
  local set name how set_dir unit chosen posts=()
  chosen="$(joined "${lfmmi_systems[@]}")"
  run steps/train_chain_tree.sh --config chain_tree "data/$train/mfcc" data/lang "exp/$target/ali_train" exp/chain
  for set in train dev; do
    run steps/convert_ali.sh data/lang "exp/$target/ali_$set" exp/chain "exp/chain/ali_$set"
  done
  run steps/make_denominator.sh --config denominator data/lang exp/chain/ali_train exp/chain exp/chain/denominator
  for unit in phone subword; do
    run steps/dump_posteriors.sh --nj 1 --config posteriors data/lang "exp/teacher_$unit" exp/chain/ali_train "exp/teacher_$unit/post_chain"
    posts+=("exp/teacher_$unit/post_chain")
  done
  each SYS="$chosen" --mem 3G exp/log/student_SYS.log \
    steps/train_student.sh --config student_ce --config lfmmi --config SYS --denominator exp/chain/denominator --posts "$(joined "${posts[@]}")" \
    "data/$train/fbank" exp/chain/ali_train "data/$dev/fbank" exp/chain/ali_dev exp/student_SYS
  for name in "${graphs[@]}"; do
    graph "$name" chain
    for set in dev "${tests[@]}"; do
      decoding "$name" "$set" student exp/student_SYS chain
      each SYS="$chosen" --mem 2G "exp/log/decode_${set}_${name}_SYS.log" \
        steps/decode.sh --nj 1 "${how[@]}" exp/student_SYS "$set_dir/fbank" data/lang "exp/student_SYS/decode_${set}_$name"
    done
  done
  results
}
