#!/bin/bash -p
# Any corpus in Kaldi's form -> table of error rates. Everything is tuned on held-out training speakers; stages as in egs/an4.
set -euo pipefail
here="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "$here/path.sh"
source "$here/cmd.sh"
source "$KD_ROOT/utils/recipe.sh"
source "$KD_ROOT/utils/stages.sh"
source "$KD_ROOT/utils/kaldi_stages.sh"

usage() {
  cat <<'TEXT'
usage: egs/kaldi_dir/run.sh --train DIR --test DIR --lexicon FILE [options]
  --tiny             small models, for a first look; without --train on a synthetic corpus, exported to Kaldi's format
  --train DIR        Kaldi data folders: wav.scp, text, utt2spk; segments, spk2utt, reco2dur, utt2dur if present
  --test DIR         the set that is reported; nothing is chosen on it
  --dev DIR          the set that everything is tuned on (default: a tenth of the training speakers, held out)
  --lexicon FILE     CMUdict, Sphinx, MFA or HTK dictionary, Kaldi's lexicon.txt, lexiconp.txt or lexiconp_silprob.txt
  --lm-text FILE     LM text, one sentence per line, may be gzipped (default: the training transcripts)
  --relative-to DIR  base folder of relative paths in wav.scp (default: the current folder, as in Kaldi)
  --allow-pipes      run wav.scp's commands; 'flac -c -d -s FILE |', 'sph2pipe -f wav FILE |' are read without that
  --sample-rate N    sampling rate of the features (default: 16000, or 8000 when a training recording has less)
  --work DIR         where data/ and exp/ go (default: this recipe's folder)
  --conf DIR         YAML files with options of the steps: NAME.yaml overrides conf/NAME.yaml
  --systems A,B|all  students to train and decode: names of conf/student_NAME.yaml (default: ce,mtl,li,hmt; with
                     --tiny all); with --stage ablation those of conf/ablation.yaml (default: all)
  --seeds 0,1        with --stage ablation: only these seeds; the table holds all that exist
TEXT
  recipe_usage
}

opt=([tiny]=false [train]="" [test]="" [dev]="" [lexicon]="" [lm-text]="" [relative-to]="$PWD" [allow-pipes]=false [sample-rate]=""
  [work]="$here" [conf]="" [systems]="" [seeds]="")
stages=(corpus lang features lms mono tri sat align teachers posteriors students graphs decode results ablation)
goal=results
about+=([corpus]="Lhotse manifests; held-out training speakers apart" [lms]="pruned 3-gram for the graph, 4-gram for rescoring")
train=train dev=dev tests=(test) lms=(word 4gram) graphs=(word) same_rate=true
recipe_options "$@"
sample=false
if [[ "${opt[tiny]}" == true && -z "${opt[train]}${opt[test]}${opt[lexicon]}" ]]; then sample=true; fi
for name in train test lexicon; do
  [[ -n "${opt[$name]}" || "$sample" == true || "${opt[list-stages]}" == true ]] || die 2 "--$name is missing; --help lists the options"
done
[[ -z "${opt[dev]}" || "${opt[dev]}" != "${opt[test]}" ]] || die 2 "--dev and --test are both ${opt[dev]}: nothing may be chosen on the test set"
if [[ -n "${opt[sample-rate]}" ]]; then feature_options=(--sample-rate "${opt[sample-rate]}") same_rate=false; fi

embedded() {  # the embedded corpus in Kaldi's form
  run local/librispeech/make_embedded.sh --nj "${opt[nj]}" data/source/embedded
  run local/librispeech/prepare_data.sh --nj "${opt[nj]}" data/source/embedded data/source
  run utils/export_kaldi_data.sh data/source/train_clean_5 data/source/kaldi_train
  run utils/export_kaldi_data.sh data/source/dev_clean_2 data/source/kaldi_test
}

corpus() {
  if [[ "$sample" == true ]]; then embedded; fi
  import_sets "${opt[train]:-data/source/kaldi_train}" "${opt[dev]}" "${opt[test]:-data/source/kaldi_test}"
}

lang() { lang_with "${opt[lexicon]:-data/source/embedded/lexicon.txt}"; }

note() {
  if [[ "$sample" == true ]]; then echo 'embedded, synthesised by espeak-ng'; else echo "Kaldi folders of the user's"; fi
}

recipe_run
