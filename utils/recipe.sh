#!/usr/bin/env bash
# What every recipe's run.sh shares: options, the stage loop, one run at a time.  Sourced, not run.
#
# A recipe sets `stages` (names, in order; each is a function of that name), `about` (name -> one line), then calls
# `recipe_options "$@"` and `recipe_run`. Options become entries of `opt`; nothing is evaluated.
set -euo pipefail

declare -A opt about
declare -a stages
current='set-up'

die() {  # die STATUS MESSAGE: one line on stderr
  printf 'error: %s\n' "$2" >&2
  exit "$1"
}

absolute() {  # absolute PATH: seen from where the user stands
  realpath -ms -- "$1"
}

list_stages() {
  local i
  for i in "${!stages[@]}"; do
    printf '%3d  %-11s %s\n' "$((i + 1))" "${stages[i]}" "${about[${stages[i]}]}"
  done
}

recorded() {  # recorded FILE: the line in it, which the first stage has written
  [[ -s "$1" ]] || die 1 "$1: missing; run stage ${stages[0]} first (--stage ${stages[0]})"
  cat -- "$1"
}

stage_number() {  # stage_number OPTION VALUE: the number of a stage given by number or by name
  local i
  for i in "${!stages[@]}"; do
    if [[ "$2" == "${stages[i]}" || "$2" == "$((i + 1))" ]]; then
      echo "$((i + 1))"
      return
    fi
  done
  die 2 "$1 $2: no such stage; known are 1 to ${#stages[@]}: ${stages[*]}"
}

recipe_options() {  # fill `opt`; the option must be one of `opt`'s keys; flags have the default 'false'
  local key
  while (($#)); do
    case "$1" in
      --help | -h) usage; exit 0 ;;
      --list-stages) list_stages; exit 0 ;;
      --*)
        key="${1#--}"
        [[ -n "$key" && -v "opt[$key]" ]] || die 2 "unknown option $1; --help lists the options"
        if [[ "${opt[$key]}" == @(true|false) ]]; then
          opt[$key]=true
        else
          (($# >= 2)) || die 2 "option $1 wants a value"
          opt[$key]="$2"
          shift
        fi
        shift ;;
      *) die 2 "unexpected argument '$1'; --help lists the options" ;;
    esac
  done
}

stopped() {  # stopped STATUS: the last words of a run that did not reach its end
  if (($1 == 130)); then
    printf 'interrupted; run the same command again to go on\n' >&2
  elif (($1 != 0)); then
    printf 'stage %s failed (exit status %d); mend the cause above, then go on with --stage %s and the same options\n' "$current" "$1" "$current" >&2
  fi
}

recipe_run() {  # run the stages from opt[stage] to opt[stop-stage] in the folder opt[work]
  local first last i name began
  first="$(stage_number --stage "${opt[stage]}")" || exit
  last="$(stage_number --stop-stage "${opt[stop-stage]:-${#stages[@]}}")" || exit
  ((first <= last)) || die 2 "--stage $first comes after --stop-stage $last"
  [[ "${opt[nj]}" =~ ^[1-9][0-9]*$ ]] || die 2 "--nj ${opt[nj]}: a number of at least 1 is wanted"
  mkdir -p -- "${opt[work]}" 2>/dev/null || die 1 "--work ${opt[work]}: cannot make this folder; choose another one"
  (: >>"${opt[work]}/.lock") 2>/dev/null || die 1 "--work ${opt[work]}: cannot write there; mend its permissions or choose another folder"
  exec 9>"${opt[work]}/.lock"
  # A killed run's children hold the lock until the last of them is gone: wait a little before giving up.
  flock -w 10 9 || die 1 "${opt[work]} is in use by another run; wait for it or choose another --work"
  "$KD_ROOT/utils/setup_env.sh"
  trap 'exit 130' INT TERM
  trap 'stopped "$?"' EXIT
  for ((i = first; i <= last; i++)); do
    name="${stages[i - 1]}"
    began=$SECONDS
    printf '== stage %d: %s (%s)\n' "$i" "$name" "${about[$name]}"
    current="$name"
    "$name"
    printf '== stage %d: %s took %d s\n' "$i" "$name" "$((SECONDS - began))"
  done
}
