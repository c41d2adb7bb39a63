# shellcheck shell=bash disable=SC2154 # opt and plan_file are the recipe's
# Decide where the corpus, the LM text and the lexicon come from; download or synthesise them if asked to.
# Sourced by egs/mini_librispeech/run.sh. Sources are never mixed silently.
#
# Out: data/source/corpus, lm_text and lexicon, each a file with one absolute path; data/source/name, a description for the tables.

find_corpus() {
  local out="$PWD/data/source" corpus="${opt[corpus]}" lm_text="${opt[lm-text]}" lexicon="${opt[lexicon]}" description name
  if [[ -n "$corpus" ]]; then
    description="${corpus##*/}, a folder of the user's"
    for name in lm_text lexicon; do
      [[ -n "${!name}" ]] || die 2 "--corpus was given without --${name/_/-}; give a file, or the word 'openslr' to download it"
    done
  elif [[ "${opt[tiny]}" == true && -z "$lm_text$lexicon" ]]; then
    run local/librispeech/make_embedded.sh "$out/embedded"
    description="embedded, synthesised by espeak-ng"
    corpus="$out/embedded" lm_text="$out/embedded/lm-text.txt.gz" lexicon="$out/embedded/lexicon.txt"
  else
    run local/librispeech/download.sh audio "$out/openslr"
    corpus="$out/openslr/LibriSpeech" description="mini_librispeech (OpenSLR 31)"
  fi
  if [[ "${lm_text:-openslr}" == openslr || "${lexicon:-openslr}" == openslr ]]; then
    run local/librispeech/download.sh lm "$out/openslr"
    if [[ "${lm_text:-openslr}" == openslr ]]; then lm_text="$out/openslr/librispeech-lm-norm.txt.gz"; fi
    if [[ "${lexicon:-openslr}" == openslr ]]; then lexicon="$out/openslr/librispeech-lexicon.txt"; fi
  fi
  for name in corpus lm_text lexicon; do
    [[ -n "$plan_file" || -e "${!name}" ]] || die 1 "--${name/_/-} ${!name}: no such file or folder; check the path"
    record "$out/$name" "${!name}"
  done
  record "$out/name" "$description"
  echo "source: $corpus ($description)"
}
