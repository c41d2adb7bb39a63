#!/bin/bash -p
# Decide where the corpus, the LM text and the lexicon come from; fetch or synthesise them if asked to.
# Usage: local/librispeech/find_corpus.sh <tiny: true|false> <corpus|''> <lm-text|openslr|''> <lexicon|openslr|''> <out>
# Out: <out>/corpus, <out>/lm_text, <out>/lexicon, each a file with one absolute path; <out>/name, in words for the tables. Sources are never mixed silently.
set -euo pipefail
if (($# != 5)); then sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; [[ "${1:-}" == --help ]] && exit 0 || exit 2; fi
tiny="$1" corpus="$2" lm_text="$3" lexicon="$4" out="$5"
here="$(dirname "${BASH_SOURCE[0]}")"
source "$here/../../utils/env.sh"
source "$here/../../utils/record.sh"

if [[ -n "$corpus" ]]; then
  name_of_corpus="${corpus##*/}, a folder of the user's"
  for name in lm_text lexicon; do
    if [[ -z "${!name}" ]]; then
      echo "error: --corpus was given without --${name/_/-}; give a file, or the word 'openslr' to download it" >&2
      exit 2
    fi
  done
elif [[ "$tiny" == true && -z "$lm_text$lexicon" ]]; then
  "$here/make_embedded.sh" "$out/embedded"
  name_of_corpus="embedded, synthesised by espeak-ng"
  corpus="$out/embedded" lm_text="$out/embedded/lm-text.txt.gz" lexicon="$out/embedded/lexicon.txt"
else
  "$here/download.sh" audio "$out/openslr"
  corpus="$out/openslr/LibriSpeech" name_of_corpus="mini_librispeech (OpenSLR 31)"
fi
if [[ "${lm_text:-openslr}" == openslr || "${lexicon:-openslr}" == openslr ]]; then
  "$here/download.sh" lm "$out/openslr"
  if [[ "${lm_text:-openslr}" == openslr ]]; then lm_text="$out/openslr/librispeech-lm-norm.txt.gz"; fi
  if [[ "${lexicon:-openslr}" == openslr ]]; then lexicon="$out/openslr/librispeech-lexicon.txt"; fi
fi

for name in corpus lm_text lexicon; do
  if [[ ! -e "${!name}" && -z "${KD_PLAN:-}" ]]; then
    option="${name/_/-}"
    echo "error: --$option ${!name}: no such file or folder; check the path" >&2
    exit 1
  fi
  record "$out/$name" "${!name}"
done
record "$out/name" "$name_of_corpus"
echo "source: $corpus ($name_of_corpus)"
