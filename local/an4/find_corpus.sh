#!/bin/bash -p
# Decide where AN4 is; fetch or synthesise it if no folder is given.
# Usage: local/an4/find_corpus.sh <tiny: true|false> <corpus|''> <out>
# Out: <out>/corpus, <out>/lexicon, each a file with one absolute path; <out>/name, a description for the tables.
set -euo pipefail
if (($# != 3)); then sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; [[ "${1:-}" == --help ]] && exit 0 || exit 2; fi
tiny="$1" corpus="$2" out="$3"
here="$(dirname "${BASH_SOURCE[0]}")"
source "$here/../../utils/env.sh"
source "$here/../../utils/record.sh"

name_of_corpus="AN4"
if [[ -n "$corpus" ]]; then
  if [[ ! -d "$corpus/etc" && -d "$corpus/an4/etc" ]]; then corpus="$corpus/an4"; fi
elif [[ "$tiny" == true ]]; then
  "$here/make_embedded.sh" "$out/embedded"
  corpus="$out/embedded" name_of_corpus="made up in AN4's form, synthesised by espeak-ng"
else
  "$here/download.sh" "$out/download"
  corpus="$out/download/an4"
fi
lexicon="$corpus/etc/an4.dic"
if [[ ! -f "$lexicon" && -z "${KD_PLAN:-}" ]]; then
  echo "error: --corpus $corpus: no file etc/an4.dic in it; give AN4's folder, the one that holds etc and wav" >&2
  exit 1
fi
record "$out/corpus" "$corpus"
record "$out/lexicon" "$lexicon"
record "$out/name" "$name_of_corpus"
echo "source: $corpus ($name_of_corpus)"
