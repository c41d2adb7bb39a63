#!/bin/bash -p
# Any corpus that Lhotse prepares -> table of error rates, with the stages and options of egs/kaldi_dir.
set -euo pipefail
here="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "$here/path.sh"
source "$here/cmd.sh"
source "$KD_ROOT/utils/recipe.sh"
source "$KD_ROOT/utils/stages.sh"
source "$KD_ROOT/utils/kaldi_stages.sh"

usage() {
  cat <<'TEXT'
usage: egs/lhotse_corpus/run.sh NAME --corpus DIR --train PART --test PART --lexicon FILE [options]
  NAME               the corpus in Lhotse, as librispeech for lhotse.recipes.prepare_librispeech
  --corpus DIR       its folder, as that recipe expects it; its parts are named when --train or --test is missing
  --arguments YAML   more arguments of that recipe, as '{dataset_parts: [dev-clean]}'
  --train PART       part of the corpus, with _ for -; without it the run ends when the parts are known
  --test PART        the part that is reported; nothing is chosen on it
  --dev PART         the part that everything is tuned on (default: a tenth of the training speakers, held out)
  --lexicon FILE     CMUdict, Sphinx, MFA or HTK dictionary, Kaldi's lexicon.txt, lexiconp.txt or lexiconp_silprob.txt
  --lm-text FILE     LM text, one sentence per line, may be gzipped (default: the training transcripts)
  --tiny             small models, for a first look; without NAME on a synthetic corpus in LibriSpeech's layout
  --work DIR         where data/ and exp/ go (default: this recipe's folder)
  --conf DIR         YAML files with options of the steps: NAME.yaml overrides egs/kaldi_dir/conf/NAME.yaml
  --systems A,B|all  students to train and decode: names of egs/kaldi_dir/conf/student_NAME.yaml (default: ce,mtl,li,hmt; with
                     --tiny all); with --stage ablation those of its ablation.yaml (default: all)
  --seeds 0,1        with --stage ablation: only these seeds; the table holds all that exist
TEXT
  recipe_usage
}

opt=([tiny]=false [corpus]="" [arguments]="{}" [train]="" [test]="" [dev]="" [lexicon]="" [lm-text]="" [work]="$here" [conf]="" [systems]="" [seeds]="")
stages=(corpus lang features lms mono tri sat align teachers posteriors students graphs decode results ablation)
goal=results
about+=([corpus]="Kaldi folders by Lhotse, then its manifests" [lms]="pruned 3-gram for the graph, 4-gram for rescoring")
train=train dev=dev tests=(test) lms=(word 4gram) graphs=(word) same_rate=true conf="$KD_ROOT/egs/kaldi_dir/conf"
paths=(corpus lexicon lm-text work conf)  # --train, --dev and --test are names of parts
lhotse_name=''
if [[ "${1:---}" != -* ]]; then lhotse_name="$1"; shift; fi
recipe_options "$@"
opt+=([relative-to]="$PWD" [allow-pipes]=false)
sample=false
if [[ "${opt[tiny]}" == true && -z "$lhotse_name${opt[corpus]}" ]]; then
  sample=true lhotse_name=librispeech opt+=([arguments]='{dataset_parts: [train-clean-5, dev-clean-2]}' [train]=train_clean_5 [test]=dev_clean_2)
fi
[[ -n "$lhotse_name" || "${opt[list-stages]}" == true ]] || die 2 "the corpus's NAME in Lhotse is missing; --help lists the options"
for name in corpus lexicon; do
  [[ -n "${opt[$name]}" || "$sample" == true || "${opt[list-stages]}" == true ]] || die 2 "--$name is missing; --help lists the options"
done

corpus() {
  local parts="$PWD/data/source/$lhotse_name"
  if [[ "$sample" == true ]]; then run local/librispeech/make_embedded.sh --nj "${opt[nj]}" data/source/embedded; fi
  run local/lhotse/prepare_data.sh --name "$lhotse_name" --arguments "${opt[arguments]}" "${opt[corpus]:-data/source/embedded/LibriSpeech}" "$parts"
  [[ -n "${opt[train]}" && -n "${opt[test]}" || "${opt[list-stages]}${opt[dry-run]}" == *true* ]] ||
    die 2 "--train and --test: name two parts of the corpus, the folders in $parts"
  import_sets "$parts/${opt[train]}" "${opt[dev]:+$parts/${opt[dev]}}" "$parts/${opt[test]}"
}

lang() { lang_with "${opt[lexicon]:-data/source/embedded/lexicon.txt}"; }

note() { echo "${lhotse_name:-a corpus} as Lhotse prepares it"; }

recipe_run
