# shellcheck shell=bash disable=SC2154 # opt and plan_file are the recipe's
# Decide where AN4 is; download or synthesise it if no folder is given.  Sourced by egs/an4/run.sh.
#
# Out: data/source/corpus and lexicon, each a file with one absolute path; data/source/name, a description for the tables.

find_corpus() {
  local out="$PWD/data/source" corpus="${opt[corpus]}" name="AN4"
  if [[ -n "$corpus" ]]; then
    if [[ ! -d "$corpus/etc" && -d "$corpus/an4/etc" ]]; then corpus="$corpus/an4"; fi
  elif [[ "${opt[tiny]}" == true ]]; then
    run local/an4/make_embedded.sh "$out/embedded"
    corpus="$out/embedded" name="made up in AN4's form, synthesised by espeak-ng"
  else
    run local/an4/download.sh "$out/download"
    corpus="$out/download/an4"
  fi
  [[ -n "$plan_file" || -f "$corpus/etc/an4.dic" ]] ||
    die 1 "--corpus $corpus: no file etc/an4.dic in it; give AN4's folder, the one that holds etc and wav"
  record "$out/corpus" "$corpus"
  record "$out/lexicon" "$corpus/etc/an4.dic"
  record "$out/name" "$name"
  echo "source: $corpus ($name)"
}
