#!/usr/bin/env bash
# Decide where AN4 and its dictionary are.
# Usage: local/an4/find_corpus.sh <corpus> <out>
# Out: <out>/corpus, <out>/lexicon, each a file with one absolute path; <out>/name, in words for the tables.
set -euo pipefail
corpus="$1" out="$2"
here="$(dirname "${BASH_SOURCE[0]}")"
source "$here/../../utils/env.sh"
source "$here/../../utils/record.sh"

if [[ -z "$corpus" ]]; then
  echo "error: --corpus is missing; give AN4's folder, the one that holds etc and wav" >&2
  exit 2
fi
if [[ ! -d "$corpus/etc" && -d "$corpus/an4/etc" ]]; then corpus="$corpus/an4"; fi
lexicon="$corpus/etc/an4.dic"
if [[ ! -f "$lexicon" ]]; then
  echo "error: --corpus $corpus: no file etc/an4.dic in it; give AN4's folder, the one that holds etc and wav" >&2
  exit 1
fi
record "$out/corpus" "$corpus"
record "$out/lexicon" "$lexicon"
record "$out/name" AN4
echo "source: $corpus"
