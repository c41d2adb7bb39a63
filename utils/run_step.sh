# shellcheck shell=bash disable=SC2154 # opt and conf are the recipe's
# How a recipe's stages call scripts: `run` once, `each` for several values.  Sourced by recipe.sh.
#
# A script is named by its path in the toolkit (steps/align.sh). --config NAME, without a slash, becomes all files that
# configure NAME; later ones win: utils/conf/NAME.yaml (shared by recipes), the recipe's conf/NAME.yaml, the
# section NAME of conf/tiny.yaml with --tiny, DIR/NAME.yaml with --conf DIR.

expand_call() {  # expand_call SCRIPT ARGUMENT ..: fills `call`
  local script="$1" file found
  call=("$KD_ROOT/$1")
  shift
  if [[ "$script" == steps/* && " $* " != *' --nj '* ]]; then call+=(--nj "${opt[nj]}"); fi
  while (($#)); do
    if [[ "$1" != --config || "${2:-/}" == */* ]]; then
      call+=("$1")
      shift
      continue
    fi
    found=''
    for file in "$KD_ROOT/utils/conf/$2.yaml" "$conf/$2.yaml"; do
      # A name with capitals is a placeholder of `each`: its files are checked when it is replaced.
      if [[ -f "$file" || "$2" == *[A-Z]* ]]; then call+=(--config "$file?") found=true; fi
    done
    [[ -n "$found" ]] || die 1 "$script: no options $2.yaml in $KD_ROOT/utils/conf or $conf"
    if [[ "${opt[tiny]}" == true ]]; then call+=(--config "$conf/tiny.yaml:$2"); fi
    if [[ -n "${opt[conf]:-}" ]]; then call+=(--config "${opt[conf]}/$2.yaml?"); fi
    shift 2
  done
}

start() {  # start COMMAND ..; during planning (plan.sh) it is only noted
  if [[ -n "$plan_file" ]]; then printf '%s\0' "$current" "$#" "$@" >>"$plan_file"; else "$@"; fi
}

run() {  # run SCRIPT [ARGUMENT ..]
  local call
  expand_call "$@"
  start "${call[@]}"
}

each() {  # each NAME=VALUES [--mem SIZE] LOG SCRIPT [ARGUMENT ..]: once per value, by utils/launch.sh
  local call name="$1" more=(--max-jobs "${opt[nj]}") log
  shift
  if [[ "$1" == --mem ]]; then
    more+=(--mem "$2")
    shift 2
  fi
  log="$1"
  shift
  expand_call "$@"
  start "$KD_ROOT/utils/launch.sh" "${more[@]}" "$name" "$log" "${call[@]}"
}

shown_command() {  # shown_command [WORD ..]: the command as shown in the tables, files without their folders
  local name words=("egs/${here##*/}/run.sh" "$@")
  if [[ "${opt[tiny]}" == true ]]; then words+=(--tiny); fi
  for name in corpus train test dev lm-text lexicon; do
    if [[ -n "${opt[$name]:-}" ]]; then words+=("--$name" "${opt[$name]##*/}"); fi
  done
  printf '%s\n' "${words[*]}"
}
