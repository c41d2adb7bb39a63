# shellcheck shell=bash disable=SC2154 # opt is the recipe's
# Stages of recipes with a corpus in Kaldi's format.  Sourced by run.sh after utils/stages.sh.
#
# In: opt[relative-to], opt[allow-pipes], opt[lm-text] as egs/kaldi_dir has them.  Out: data/train, data/dev, data/test, data/lang.

import() {  # import KALDI_DIR DATA_DIR [OPTION ...]
  run utils/import_kaldi_data.sh --nj "${opt[nj]}" --config import --relative-to "${opt[relative-to]}" --allow-pipes "${opt[allow-pipes]}" "${@:3}" "$1" "$2"
}

import_sets() {  # import_sets TRAIN DEV TEST: without DEV 10% of the training speakers are held out
  local whole=data/train_all
  if [[ -n "$2" ]]; then
    whole=data/train
    import "$1" "$whole"
    import "$2" data/dev --apart-from "$whole"
  else
    import "$1" "$whole"
    run steps/split_set.sh --config split "$whole" data/train data/dev
  fi
  import "$3" data/test --apart-from "$whole"
}

lang_with() {  # lang_with LEXICON: the LM text is that of --lm-text, or the training transcripts
  run steps/prepare_lm_text.sh --config lm_text "${opt[lm-text]:-data/train}" data/lm_text
  run steps/prepare_lang.sh --config lang --align-data data/dev "$1" data/lm_text data/train data/lang
}
